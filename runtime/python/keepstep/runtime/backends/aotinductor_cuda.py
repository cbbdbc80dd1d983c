"""NVIDIA GPUs, with what PyTorch's AOTInductor has compiled for them: any that PyTorch knows.

Inputs, outputs and weights are the player's own memory. What lies between the kernels of a stage is
PyTorch's: it takes it once, while the loop is captured, for the graph alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from keepstep.runtime.backends import engine_paths
from keepstep.runtime.backends.aotinductor import failed
from keepstep.runtime.backends.aotinductor_package import Package, launches, load_package
from keepstep.runtime.backends.cuda_session import CudaSession, Replay, exclusive
from keepstep.runtime.errors import BackendError
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.format.plan import Plan, TensorType
from keepstep.runtime.memory.addresses import check_alignment

# Of the same size: the interface through which PyTorch takes memory has no bfloat16.
_ITEMS = {
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": "<i2",
    "int64": "<i8",
    "int32": "<i4",
    "uint8": "|u1",
    "bool": "|b1",
}


class AotInductorCuda:
    """Opens sessions on the first GPU."""

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise BackendError(
                f"PyTorch {torch.__version__} finds no GPU; it was made for CUDA "
                f"{torch.version.cuda or 'no version'}: pip install another build of torch"
            )

    def open(self, bundle: BundleFolder, plan: Plan, threads: int | None) -> AotInductorCudaSession:
        """Load the plan's packages; `threads` is about CPUs and means nothing here."""
        check_alignment(plan)
        paths = engine_paths(bundle, plan, "aotinductor-cuda")
        with exclusive:
            torch.cuda.init()  # type: ignore[no-untyped-call]
            packages = {n: load_package(bundle, plan, n, path, "cuda") for n, path in paths.items()}
            return AotInductorCudaSession(bundle, plan, packages)


class AotInductorCudaSession(CudaSession):
    """One package a stage, all on the player's stream."""

    def __init__(self, bundle: BundleFolder, plan: Plan, packages: Mapping[str, Package]) -> None:
        super().__init__(bundle, plan, _layouts(plan, packages))
        self._packages = packages
        self._torch_stream = torch.cuda.ExternalStream(  # type: ignore[no-untyped-call]
            self._stream.handle
        )
        self._pool = torch.cuda.graph_pool_handle()
        self._pool_bytes = 0
        self._launches = launches(
            plan, packages, self._addresses, self._values.constants, _tensor_at
        )

    def launch(self, call: int) -> None:
        """Enqueue one call."""
        package = self._packages[self._plan.calls[call].stage]
        try:
            with torch.cuda.stream(self._torch_stream), _exact():
                package.run(self._launches[call])
        except RuntimeError as error:
            raise failed(self._plan, call, error) from error

    def captured(self, launch: Callable[[], None]) -> Replay:
        """Captured by PyTorch, whose allocator then knows that the memory is the graph's."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.empty_cache()  # what the first run took is not needed twice
        before = torch.cuda.memory_reserved()
        try:
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._torch_stream,
                capture_error_mode="thread_local",
            ):
                launch()
        except RuntimeError as error:
            raise BackendError(f"PyTorch cannot capture it: {error}") from error
        self._pool_bytes += torch.cuda.memory_reserved() - before
        return _TorchGraph(graph, self._torch_stream)

    @property
    def device_bytes(self) -> int:
        """Of the arena, the constants, and what the graphs hold between their kernels."""
        return super().device_bytes + self._pool_bytes

    def close_engines(self) -> None:
        """Packages and the tensors that they were given."""
        self._launches, self._packages = [], {}


class _TorchGraph:
    """A graph that PyTorch captured."""

    def __init__(self, graph: Any, stream: Any) -> None:
        self._graph, self._stream = graph, stream

    def play(self) -> None:
        """Launch it on the player's stream."""
        with torch.cuda.stream(self._stream):
            self._graph.replay()

    def close(self) -> None:
        """Give it and its memory back."""
        self._graph.reset()


@contextmanager
def _exact() -> Iterator[None]:
    """Float32 as it is written, and the fastest of cuDNN's kernels, which the first run finds."""
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=True, deterministic=False, allow_tf32=False
    ):
        yield


def _layouts(plan: Plan, packages: Mapping[str, Package]) -> dict[str, tuple[int, ...]]:
    """Value → the order of its axes in memory, where that is not the plan's."""
    return {
        plan.stages[name].weights[tensor]: axes
        for name, package in packages.items()
        for tensor, axes in package.interface.layouts.items()
    }


def _tensor_at(address: int, type_: TensorType) -> Any:
    """Device memory as a tensor, without a copy."""

    class Memory:
        __cuda_array_interface__ = {  # noqa: RUF012
            "data": (address, False),
            "shape": type_.shape,
            "typestr": _ITEMS[type_.dtype],
            "strides": None,
            "version": 2,
        }

    tensor = torch.as_tensor(Memory(), device="cuda")
    if tensor.data_ptr() != address:
        raise BackendError("PyTorch copies memory of the GPU that it was to use where it is")
    return tensor.view(getattr(torch, type_.dtype))
