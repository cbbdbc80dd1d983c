"""What the sessions of all GPU backends have in common: memory, a stream, one graph a loop.

At first a list of calls is launched one by one; when its engines have settled, the same launches
are captured as one CUDA graph. From then on a run is one launch, without host, allocation or copy
between its calls.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from threading import RLock
from typing import Protocol

import numpy as np

from keepstep.runtime.backends import Session, SupportsDLPack, Times
from keepstep.runtime.backends.cuda import Stream
from keepstep.runtime.backends.cuda_memory import DeviceValues
from keepstep.runtime.errors import BackendError
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.format.plan import Plan
from keepstep.runtime.memory.addresses import call_addresses

ATTEMPTS = 3  # at a capture: an engine may take memory once more than it says

# Some of what others do to the GPU is forbidden while any stream is captured: to start a library,
# to wait for the whole device. So sessions are opened, closed and captured one after the other.
exclusive = RLock()


class Replay(Protocol):
    """Launches that were captured."""

    def play(self) -> None:
        """Launch all of them at once, on the session's stream."""

    def close(self) -> None:
        """Give them back."""


class CudaSession(Session):
    """A plan's values on the GPU, the address of every tensor of every call, and graphs."""

    runs_before_capture = 1  # in which an engine settles: compiles, takes its scratch memory

    def __init__(
        self,
        bundle: BundleFolder,
        plan: Plan,
        layouts: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        """layouts: constant → the order of its axes in memory, where that is not the plan's."""
        self._plan = plan
        self._stream = Stream()
        self._values = DeviceValues(bundle, plan, self._stream, layouts or {})
        self._addresses = call_addresses(plan, self._values.arena, self._values.constants)
        # By the calls that were played.
        self._graphs: dict[tuple[int, ...], Replay] = {}
        self._runs: Counter[tuple[int, ...]] = Counter()
        self._closed = False

    def __del__(self) -> None:
        """What launches on the stream goes before the stream does."""
        with suppress(Exception):
            self.close()

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
        """Launch the graph of these calls; until there is one, the calls, and then make it."""
        key = tuple(calls)
        if key in self._graphs:
            self._graphs[key].play()
            return
        super().play(calls)
        self._runs[key] += 1
        attempt = self._runs[key] - self.runs_before_capture
        if 0 <= attempt < ATTEMPTS:
            self.wait()
            self._capture(key, last=attempt == ATTEMPTS - 1)

    def captured(self, launch: Callable[[], None]) -> Replay:
        """What `launch` launches on the session's stream; nothing of it runs now."""
        return self._stream.captured(launch)

    def warmed_up(self) -> None:
        """Called when calls have been captured for the first time."""
        return

    def check_capturable(self) -> None:
        """Raise `BackendError` for an engine that says that it cannot be captured."""
        return

    def timed(self, calls: Sequence[int], rewind: Callable[[], None]) -> Times:
        """Measured by the GPU's own clock: the whole as it is played, then call by call."""
        for _ in range(self.runs_before_capture + ATTEMPTS):
            self.play(calls)  # what is done once is not to be counted
            self.wait()
            rewind()
            if tuple(calls) in self._graphs:
                break
        each = self._stream.timed([partial(self.launch, call) for call in calls])
        rewind()
        (seconds,) = self._stream.timed([partial(self.play, calls)])
        return Times(seconds, each)

    @property
    def device_bytes(self) -> int:
        """Of the arena and the constants; subclasses add what engines take."""
        return self._values.bytes

    def close(self) -> None:
        """Wait, then give everything back, what launches first. Closing twice does nothing."""
        with exclusive:
            if self._closed:
                return
            self._closed = True
            self.wait()
            for graph in self._graphs.values():
                graph.close()
            self._graphs = {}
            self.close_engines()
            self._values.close()
            self._stream.close()

    def close_engines(self) -> None:
        """Give back what launches on the stream."""
        return

    def _capture(self, calls: tuple[int, ...], *, last: bool) -> None:
        """Make the graph of the calls; after the `last` attempt they are launched one by one."""
        try:
            self.check_capturable()
            with exclusive:
                graph = self.captured(lambda: super(CudaSession, self).play(calls))
        except BackendError as error:
            if last:
                warnings.warn(
                    f"plan {self._plan.name!r} cannot be captured as one CUDA graph and is "
                    f"launched call by call: {error}",
                    RuntimeWarning,
                    stacklevel=4,
                )
        else:
            self._graphs[calls] = graph
            self.warmed_up()
