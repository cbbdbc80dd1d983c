"""CUDA as far as playing needs it: memory, one stream, events, graphs. No kernel of our own.

The first GPU that CUDA shows is used; `CUDA_VISIBLE_DEVICES` chooses another. What CUDA refuses
is a `BackendError` with its own words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any
from weakref import finalize

import numpy as np
from cuda.bindings import runtime as cudart

from keepstep.runtime.errors import BackendError

_TO_DEVICE = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
_TO_HOST = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
_WITHIN = cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice
# Other threads may allocate while a stream is captured.
_CAPTURE = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal


def checked(answer: Sequence[Any], doing: str) -> Any:
    """The result of a CUDA call, of which the first item is an error code."""
    code, *results = answer
    if code != cudart.cudaError_t.cudaSuccess:
        _, text = cudart.cudaGetErrorString(code)
        raise BackendError(f"CUDA could not {doing}: {text.decode()} ({code.name})")
    return results[0] if results else None


def device() -> tuple[str, tuple[int, int]]:
    """The GPU's name and its compute capability."""
    found = checked(cudart.cudaGetDeviceProperties(0), "find a GPU")
    return found.name.decode(), (found.major, found.minor)


class DeviceMemory:
    """A block of the GPU's memory, given back with the last reference to it."""

    def __init__(self, size: int) -> None:
        free, _ = checked(_pair(cudart.cudaMemGetInfo()), "ask for free memory")
        self.bytes = size
        self.address = int(
            checked(cudart.cudaMalloc(max(size, 1)), f"allocate {size} bytes ({free} are free)")
        )
        self._free = _finalizer(self, cudart.cudaFree, self.address)

    def close(self) -> None:
        """Give it back now: nothing on any stream may use it."""
        self._free()


class Stream:
    """Work in order, beside that of other streams."""

    def __init__(self) -> None:
        self.handle = int(
            checked(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking), "make a stream")
        )
        self._destroy = _finalizer(self, cudart.cudaStreamDestroy, self.handle)

    def upload(self, address: int, array: np.ndarray) -> None:
        """Copy a contiguous host array to the device; it may be changed when this returns."""
        source = np.ascontiguousarray(array)
        self._copy(address, source.ctypes.data, source.nbytes, _TO_DEVICE)
        self.wait()

    def download(self, array: np.ndarray, address: int) -> None:
        """Fill a contiguous host array from the device."""
        self._copy(array.ctypes.data, address, array.nbytes, _TO_HOST)
        self.wait()

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy within the device."""
        self._copy(target, source, size, _WITHIN)

    def zero(self, address: int, size: int) -> None:
        """Set bytes to zero."""
        checked(cudart.cudaMemsetAsync(address, 0, size, self.handle), "set memory to zero")

    def wait(self) -> None:
        """Return when all is done."""
        checked(cudart.cudaStreamSynchronize(self.handle), "finish what was launched")

    def captured(self, launch: Callable[[], None]) -> Graph:
        """What `launch` launches on this stream, as one graph; nothing of it runs now."""
        checked(cudart.cudaStreamBeginCapture(self.handle, _CAPTURE), "begin a capture")
        try:
            launch()
        except BaseException:
            _, broken = cudart.cudaStreamEndCapture(self.handle)
            if broken is not None and int(broken):
                cudart.cudaGraphDestroy(broken)
            raise
        recorded = checked(cudart.cudaStreamEndCapture(self.handle), "end a capture")
        try:
            _refuse_host_nodes(recorded)
            made = checked(cudart.cudaGraphInstantiate(recorded, 0), "make a graph")
            return Graph(made, self)
        finally:
            cudart.cudaGraphDestroy(recorded)

    def timed(self, works: Sequence[Callable[[], None]]) -> tuple[float, ...]:
        """Seconds that the GPU takes for each work, one behind the other, without waiting."""
        events = [checked(cudart.cudaEventCreate(), "make an event") for _ in range(len(works) + 1)]
        try:
            checked(cudart.cudaEventRecord(events[0], self.handle), "record an event")
            for work, event in zip(works, events[1:], strict=True):
                work()
                checked(cudart.cudaEventRecord(event, self.handle), "record an event")
            self.wait()
            return tuple(
                checked(cudart.cudaEventElapsedTime(begin, end), "read a clock") / 1e3
                for begin, end in pairwise(events)
            )
        finally:
            for event in events:
                cudart.cudaEventDestroy(event)

    def close(self) -> None:
        """Give it back."""
        self._destroy()

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        answer = cudart.cudaMemcpyAsync(target, source, size, kind, self.handle)
        checked(answer, f"copy {size} bytes")


class Graph:
    """Launches that the GPU goes through by itself."""

    def __init__(self, handle: Any, stream: Stream) -> None:
        self._handle, self._stream = handle, stream
        self._destroy = _finalizer(self, cudart.cudaGraphExecDestroy, handle)

    def play(self) -> None:
        """Launch all of it on the stream that it was recorded on."""
        checked(cudart.cudaGraphLaunch(self._handle, self._stream.handle), "launch a graph")

    def close(self) -> None:
        """Give it back."""
        self._destroy()


def _finalizer(owner: object, give_back: Callable[[Any], Any], handle: Any) -> finalize[Any, Any]:
    """Gives back with the owner, but not when Python ends: then others may still use it."""
    found = finalize(owner, give_back, handle)
    found.atexit = False
    return found


def _refuse_host_nodes(graph: Any) -> None:
    """Refuse a graph that calls the host: what a call gives back once, it would give back again."""
    _, count = checked(_pair(cudart.cudaGraphGetNodes(graph)), "read a graph")
    nodes, _ = checked(_pair(cudart.cudaGraphGetNodes(graph, count)), "read a graph")
    for node in nodes:
        kind = checked(cudart.cudaGraphNodeGetType(node), "read a graph")
        if kind == cudart.cudaGraphNodeType.cudaGraphNodeTypeHost:
            raise BackendError("an engine calls the host between its kernels")


def _pair(answer: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """A CUDA call's two results as one."""
    return answer[0], tuple(answer[1:])
