"""What a backend is to a player: sessions, which hold all memory of one player, wherever that is.

The player hands arrays in and out by the names of values and never sees an address, so a session on
a GPU fits in without a change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from keepstep.runtime.errors import BackendError
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.format.plan import Plan, TensorType
from keepstep.runtime.format.rules_values import type_text
from keepstep.runtime.memory.inputs import SupportsDLPack
from keepstep.runtime.quoting import quote_names


@dataclass(frozen=True)
class Times:
    """How long a run took: `seconds` as `play` plays it, and `calls`, each by itself."""

    seconds: float
    calls: tuple[float, ...]


class Session(Protocol):
    """One plan made ready to play: memory allocated, constants loaded, every call bound."""

    def write(self, value: str, array: SupportsDLPack) -> None:
        """Copy `array` into a value; dtype and shape are the value's, checked by the player."""

    def read(self, value: str) -> np.ndarray:
        """Give a copy of a value, when all that was launched is done."""

    def view(self, value: str) -> SupportsDLPack:
        """Give the memory of a value itself, when all that was launched is done."""

    def launch(self, call: int) -> None:
        """Start call number `call` of the plan, behind those started before it.

        Raises `BackendError` when the engine fails.
        """

    def wait(self) -> None:
        """Return when all that was launched is done."""

    def play(self, calls: Sequence[int]) -> None:
        """Launch these calls in order. A session that can hand over a whole loop does it here."""
        for call in calls:
            self.launch(call)

    def timed(self, calls: Sequence[int], rewind: Callable[[], None]) -> Times:
        """Play these calls and measure them; their outputs are then there to be read.

        A session that hands over a whole loop plays several times: as a whole, and call by call.
        `rewind` writes the inputs once more, because a run may overwrite what it has read.
        """
        self.wait()
        marks = [time.perf_counter()]
        for call in calls:
            self.launch(call)
            self.wait()
            marks.append(time.perf_counter())
        each = tuple(end - begin for begin, end in pairwise(marks))
        return Times(marks[-1] - marks[0], each)

    @property
    def device_bytes(self) -> int:
        """Memory of a GPU that this session and the weights it shares take; 0 on a CPU."""
        return 0

    def close(self) -> None:
        """Give memory and engines back."""


class Backend(Protocol):
    """What opens sessions."""

    def open(self, bundle: BundleFolder, plan: Plan, threads: int | None) -> Session:
        """Load `plan`; `threads` CPU threads a launch, the backend's choice when None.

        Raises `BackendError`.
        """


def engine_paths(bundle: BundleFolder, plan: Plan, engines: str) -> dict[str, str]:
    """Give the path in the bundle of every stage's engine of the kind `engines`.

    Raises `BackendError` when a stage has none.
    """
    for name, stage in plan.stages.items():
        if engines not in stage.engines:
            raise BackendError(
                f"bundle {bundle.path}, plan {plan.name!r}: stage {name!r} has no engine for "
                f"{engines}, but for {quote_names(stage.engines)}; "
                f"export again with --backend {engines}, or play with one of those"
            )
    return {name: stage.engines[engines] for name, stage in plan.stages.items()}


def interface_fault(
    expected: Mapping[str, TensorType], found: Mapping[str, TensorType]
) -> str | None:
    """How the tensors of an engine differ from those that the plan binds."""
    if missing := [name for name in expected if name not in found]:
        return f"the engine has no {quote_names(missing)}, which the plan binds"
    if extra := [name for name in found if name not in expected]:
        return f"the engine has {quote_names(extra)}, which the plan does not know"
    for name, type_ in expected.items():
        if found[name] != type_:
            return f"{name}: the plan has {type_text(type_)}, the engine {type_text(found[name])}"
    return None
