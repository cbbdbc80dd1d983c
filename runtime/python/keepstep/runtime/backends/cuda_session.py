"""What the sessions of all GPU backends have in common: memory, a stream, one graph a loop.

The first time that a list of calls is played they are launched one by one, then captured as one
CUDA graph: from then on a run is one launch, without host, allocation or copy between its calls.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from keepstep.runtime.addresses import call_addresses
from keepstep.runtime.backends import Session, SupportsDLPack, Times
from keepstep.runtime.backends.cuda import Graph, Stream
from keepstep.runtime.backends.cuda_memory import DeviceValues
from keepstep.runtime.errors import BackendError
from keepstep.runtime.plan import Plan

if TYPE_CHECKING:
    from keepstep.runtime.bundle import Bundle


class CudaSession(Session):
    """A plan's values on the GPU, the address of every tensor of every call, and graphs."""

    def __init__(self, bundle: Bundle, plan: Plan) -> None:
        self._plan = plan
        self._stream = Stream()
        self._values = DeviceValues(bundle, plan, self._stream)
        self._addresses = call_addresses(plan, self._values.arena, self._values.constants)
        # By the calls that were played; None: they cannot be captured.
        self._graphs: dict[tuple[int, ...], Graph | None] = {}

    @abstractmethod
    def launch(self, call: int) -> None:
        """Enqueue one call on the session's stream."""

    def write(self, value: str, array: SupportsDLPack) -> None:
        """Copy into the arena, from host or device."""
        self._values.write(value, array)

    def read(self, value: str) -> np.ndarray:
        """Copy out of the arena, behind all that was launched."""
        return self._values.read(value)

    def view(self, value: str) -> SupportsDLPack:
        """The value in the arena."""
        self.wait()
        return self._values.view(value)

    def wait(self) -> None:
        """Return when the stream is empty."""
        self._stream.wait()

    def play(self, calls: Sequence[int]) -> None:
        """Launch the graph of these calls; the first time, the calls, and make their graph."""
        key = tuple(calls)
        graph = self._graphs.get(key)
        if graph is not None:
            self._stream.play(graph)
            return
        super().play(calls)
        if key not in self._graphs:
            self.wait()
            self._graphs[key] = self._captured(key)
            self.warmed_up()

    def warmed_up(self) -> None:
        """Called when calls have been played and captured for the first time."""
        return

    def timed(self, calls: Sequence[int]) -> Times:
        """Measured by the GPU's own clock: the whole as it is played, then call by call."""
        self.play(calls)  # what is made once, a graph and compiled kernels, is not to be counted
        self.wait()
        (seconds,) = self._stream.timed([partial(self.play, calls)])
        each = self._stream.timed([partial(self.launch, call) for call in calls])
        return Times(seconds, each)

    @property
    def device_bytes(self) -> int:
        """Of the arena and the constants; subclasses add what engines take."""
        return self._values.bytes

    def close(self) -> None:
        """Wait, then give everything back."""
        self.wait()
        for graph in self._graphs.values():
            if graph is not None:
                graph.close()
        self._graphs = {}
        self._values.close()
        self._stream.close()

    def _captured(self, calls: tuple[int, ...]) -> Graph | None:
        """The calls as one graph; None, with a warning, where an engine cannot be captured."""
        try:
            return self._stream.captured(lambda: super(CudaSession, self).play(calls))
        except BackendError as error:
            warnings.warn(
                f"plan {self._plan.name!r} cannot be captured as one CUDA graph and is launched "
                f"call by call: {error}",
                RuntimeWarning,
                stacklevel=4,
            )
            return None
