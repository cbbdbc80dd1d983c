"""NVIDIA GPUs, with TensorRT-RTX or TensorRT: one backend, the library chosen by import.

A player has one arena, one block of scratch memory that all its engines use in turn, and one
context an engine; engines and constants are shared between players.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from keepstep.runtime.backends import engine_paths
from keepstep.runtime.backends.cuda import DeviceMemory
from keepstep.runtime.backends.cuda_session import CudaSession, exclusive
from keepstep.runtime.backends.tensorrt_diagnostics import tensorrt_log
from keepstep.runtime.backends.tensorrt_engine import Engine, Library, engine_place, load_engine
from keepstep.runtime.errors import BackendError
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.format.plan import ALIGNMENT, Plan
from keepstep.runtime.memory.addresses import check_alignment, weight_addresses


class _Backend:
    """Opens sessions with one of the two libraries."""

    module: str
    title: str
    name: str

    def __init__(self) -> None:
        trt = import_module(self.module)
        self._library = Library(trt, f"{self.title} {trt.__version__}", self.name)

    def open(self, bundle: BundleFolder, plan: Plan, threads: int | None) -> TensorRTSession:
        """Load the plan's engines; `threads` is about CPUs and means nothing here."""
        check_alignment(plan)
        paths = engine_paths(bundle, plan, self.name)
        places = {name: engine_place(bundle, name, path) for name, path in paths.items()}
        with exclusive:
            engines = {s: load_engine(self._library, bundle, plan, s, p) for s, p in paths.items()}
            return TensorRTSession(bundle, plan, engines, places)


class TensorRtx(_Backend):
    """TensorRT-RTX: engines built on any machine, compiled to their end on this one."""

    module, title, name = "tensorrt_rtx", "TensorRT-RTX", "tensorrt-rtx"


class TensorRt(_Backend):
    """TensorRT: engines built on a GPU like this one."""

    module, title, name = "tensorrt", "TensorRT", "tensorrt"


class TensorRTSession(CudaSession):
    """One context an engine, all with the same scratch memory."""

    def __init__(
        self,
        bundle: BundleFolder,
        plan: Plan,
        engines: Mapping[str, Engine],
        places: Mapping[str, str],
    ) -> None:
        super().__init__(bundle, plan)
        self._engines = engines
        self._places = places  # for messages
        self._contexts = {name: engine.context(places[name]) for name, engine in engines.items()}
        needed = [_scratch_bytes(engines[name], c) for name, c in self._contexts.items()]
        self._scratch = DeviceMemory(max(needed, default=0) or ALIGNMENT)
        constants = self._values.constants
        for name, context in self._contexts.items():
            context.set_device_memory(self._scratch.address, self._scratch.bytes)
            weights = weight_addresses(plan, name, constants)
            _set_addresses(context, weights, places[name])

    def launch(self, call: int) -> None:
        """Enqueue one call; its addresses are read while it is enqueued."""
        stage = self._plan.calls[call].stage
        library, context = self._engines[stage].library, self._contexts[stage]
        _set_addresses(context, self._addresses[call], self._places[stage])
        if not context.execute_async_v3(self._stream.handle):
            said = "; ".join(tensorrt_log(library.trt).errors[-2:])
            raise BackendError(
                f"{self._places[stage]}: calls[{call}] failed in {library.title}: {said}"
            )

    def warmed_up(self) -> None:
        """Keep what TensorRT-RTX has compiled for this GPU."""
        for engine in self._engines.values():
            if engine.compiled:
                engine.compiled.keep()

    @property
    def device_bytes(self) -> int:
        """Of the arena, the constants, the scratch memory of all engines, and embedded weights."""
        embedded = sum(_embedded_bytes(engine) for engine in self._engines.values())
        return super().device_bytes + self._scratch.bytes + embedded

    def check_capturable(self) -> None:
        """TensorRT-RTX knows it beforehand."""
        for name, context in self._contexts.items():
            asked = getattr(context, "is_stream_capturable", None)
            if asked is not None and not asked(self._stream.handle):
                title = self._engines[name].library.title
                raise BackendError(f"{self._places[name]}: {title} says that it is not capturable")

    def close_engines(self) -> None:
        """Contexts, then the memory that they work in."""
        self._contexts = {}
        self._scratch.close()


def _scratch_bytes(engine: Engine, context: Any) -> int:
    """What a context needs beside its tensors; shapes are static, so it is known."""
    return max(
        int(engine.engine.device_memory_size_v2),
        int(context.update_device_memory_size_for_shapes()),
    )


def _embedded_bytes(engine: Engine) -> int:
    """Weights within an engine."""
    return int(engine.engine.get_engine_stat(engine.library.trt.EngineStat.TOTAL_WEIGHTS_SIZE))


def _set_addresses(context: Any, addresses: Mapping[str, int], place: str) -> None:
    for tensor, address in addresses.items():
        if not context.set_tensor_address(tensor, address):
            raise BackendError(f"{place}: {tensor} cannot be bound; export the bundle again")
