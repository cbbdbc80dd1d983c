"""Engines of TensorRT-RTX and TensorRT: loaded, compared with the plan, made ready to launch."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

from keepstep.runtime.backends.cuda import device
from keepstep.runtime.backends.session import interface_fault
from keepstep.runtime.backends.tensorrt_diagnostics import (
    TENSORRT_DTYPES,
    alias_fault,
    refusal,
    tensorrt_log,
)
from keepstep.runtime.errors import BackendError
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.format.plan import Plan, TensorType

_Types = dict[str, TensorType]
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True)
class Library:
    """trt       its module
    title     its name for people, with the version
    backend   the key under `engines` of a stage
    """

    trt: Any
    title: str
    backend: str


@dataclass(frozen=True, eq=False)
class Engine:
    """A loaded engine; several players launch it, each through a context of its own."""

    library: Library
    engine: Any
    compiled: CompiledKernels | None  # TensorRT-RTX's; TensorRT has none
    lock: Lock  # contexts are made one after the other

    def context(self, place: str) -> Any:
        """What one player launches it through; its scratch memory is to be given to it.

        A context holds its engine. The cache of compiled kernels, which must outlive it, is the
        engine's.
        """
        log = tensorrt_log(self.library.trt)
        with self.lock:
            log.errors.clear()
            strategy = self.library.trt.ExecutionContextAllocationStrategy.USER_MANAGED
            if self.compiled is None:
                context = self.engine.create_execution_context(strategy)
            else:
                config = self.engine.create_runtime_config()
                config.set_execution_context_allocation_strategy(strategy)
                # The whole loop is captured as one graph; engines are not to make their own.
                config.cuda_graph_strategy = self.library.trt.CudaGraphStrategy.DISABLED
                config.set_runtime_cache(self.compiled.cache_of(config))
                context = self.engine.create_execution_context(config)
        if context is None:
            why = "; ".join(log.errors[-2:]) or "no reason was given"
            raise BackendError(f"{place} cannot be made ready by {self.library.title}: {why}")
        return context


class CompiledKernels:
    """The kernels that TensorRT-RTX compiles for the GPU at hand, kept beside the engine.

    The library refuses a file of another GPU, driver or version of its own: it starts afresh then.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._cache: Any = None
        self._known = b""
        self._writing = Lock()

    def cache_of(self, config: Any) -> Any:
        """The cache that all contexts of the engine share; read when it is first asked for."""
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            with contextlib.suppress(OSError):
                data = self._file.read_bytes()
                if self._cache.deserialize(data):
                    self._known = data
        return self._cache

    def keep(self) -> None:
        """Write what has been compiled, if that is news; a bundle may lie where none can write."""
        with self._writing:
            data = bytes(self._cache.serialize()) if self._cache is not None else b""
            if len(data) > len(self._known):
                self._write(data)

    def _write(self, data: bytes) -> None:
        part = self._file.with_name(f".{self._file.name}.{os.getpid()}.part")
        with contextlib.suppress(OSError):
            try:
                part.write_bytes(data)
                part.replace(self._file)
                self._known = data
            finally:
                part.unlink(missing_ok=True)


# By backend and content: bundles that differ by a LoRA, or share a stage, share the engine.
_engines: WeakValueDictionary[tuple[str, str], Engine] = WeakValueDictionary()
_loading = Lock()


def load_engine(library: Library, bundle: BundleFolder, plan: Plan, name: str, path: str) -> Engine:
    """The engine of the stage `name`, or that which another player has loaded already."""
    stage = plan.stages[name]
    place = engine_place(bundle, name, path)
    key = (library.backend, bundle.manifest.files[path].sha256)
    with _loading:
        engine = _engines.get(key)
        if engine is None:
            engine = _engines[key] = _loaded(library, bundle, path, place)
    weights = {tensor: plan.values[value].type for tensor, value in stage.weights.items()}
    inputs, outputs = _interface(library.trt, engine.engine, place)
    for what, expected, found in (
        ("inputs", {**stage.inputs, **weights}, inputs),
        ("outputs", stage.outputs, outputs),
    ):
        if fault := interface_fault(expected, found):
            raise BackendError(f"{place}: {what}: {fault}; export the bundle again")
    if fault := alias_fault(stage.in_place, _aliased(engine.engine, stage.outputs)):
        raise BackendError(f"{place}: {fault}; export the bundle again")
    return engine


def engine_place(bundle: BundleFolder, name: str, path: str) -> str:
    """How messages name an engine."""
    return f"bundle {bundle.path}: stage {name!r} ({path})"


def _loaded(library: Library, bundle: BundleFolder, path: str, place: str) -> Engine:
    log = tensorrt_log(library.trt)
    log.errors.clear()
    name, capability = device()
    gpu = f"{name} (compute capability {capability[0]}.{capability[1]})"
    data = bundle.read(path)
    runtime = library.trt.Runtime(log)
    diagnostics, names = 0, {}
    if hasattr(runtime, "get_engine_validity"):
        _, diagnostics = runtime.get_engine_validity(data)
        members = library.trt.EngineInvalidityDiagnostics.__members__
        names = {name: int(bit) for name, bit in members.items()}
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        why = refusal(int(diagnostics), names, gpu, log.errors[-2:])
        raise BackendError(f"{place}: {library.title} {why}")
    cache = None
    if library.backend == "tensorrt-rtx":
        file = bundle.path / path
        cache = CompiledKernels(file.with_name(f"{file.name}.{_NOT_IN_NAMES.sub('-', name)}.cache"))
    return Engine(library, engine, cache, Lock())


def _aliased(engine: Any, outputs: Iterable[str]) -> dict[str, str]:
    """Outputs that are to be bound to the memory of an input; older libraries do not say."""
    asked = getattr(engine, "get_aliased_input_tensor", None)
    found = {output: asked(output) for output in outputs} if asked else {}
    return {output: input_ for output, input_ in found.items() if input_}


def _interface(
    trt: Any, engine: Any, place: str
) -> tuple[dict[str, TensorType], dict[str, TensorType]]:
    """Inputs and outputs of an engine."""
    inputs: _Types = {}
    outputs: _Types = {}
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
            raise BackendError(f"{place}: wants {name} in host memory; export the bundle again")
        dtype = engine.get_tensor_dtype(name).name
        type_ = TensorType(
            TENSORRT_DTYPES.get(dtype, dtype), tuple(int(n) for n in engine.get_tensor_shape(name))
        )
        mode = engine.get_tensor_mode(name)
        (inputs if mode == trt.TensorIOMode.INPUT else outputs)[name] = type_
    return inputs, outputs
