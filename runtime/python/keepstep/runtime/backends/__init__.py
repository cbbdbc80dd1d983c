"""Backends: what launches engines. A backend's library is imported when the backend is opened.

A session holds all memory of one player, wherever that is: the player hands arrays in and out by
the names of values and never sees an address, so a session on a GPU fits in without a change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from keepstep.runtime.errors import BackendError
from keepstep.runtime.plan import Plan
from keepstep.runtime.wording import did_you_mean, listed, shown

if TYPE_CHECKING:
    from keepstep.runtime.bundle import Bundle


class Session(Protocol):
    """One plan made ready to play: memory allocated, constants loaded, every call bound."""

    def write(self, value: str, array: np.ndarray) -> None:
        """Copy `array` into a value; dtype and shape are the value's, checked by the player."""

    def read(self, value: str) -> np.ndarray:
        """Give a copy of a value, when all that was launched is done."""

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

    def close(self) -> None:
        """Give memory and engines back."""


class Backend(Protocol):
    """What opens sessions."""

    @property
    def name(self) -> str:
        """The key under `engines` of a stage."""

    def open(self, bundle: Bundle, plan: Plan, threads: int | None) -> Session:
        """Load `plan`; `threads` CPU threads a launch, the backend's choice when None.

        Raises `BackendError`.
        """


@dataclass(frozen=True)
class _Known:
    module: str
    backend: str  # the class in it
    library: str | None  # the module that must be installed
    install: str  # how to get it


_PACKAGE = "keepstep.runtime.backends"
_KNOWN: Mapping[str, _Known] = {
    "null": _Known(f"{_PACKAGE}.null", "Null", None, ""),
    "onnxruntime": _Known(
        f"{_PACKAGE}.onnxruntime", "OnnxRuntime", "onnxruntime", "pip install onnxruntime"
    ),
}


def known() -> tuple[str, ...]:
    """The names of all backends."""
    return tuple(_KNOWN)


def runnable() -> tuple[str, ...]:
    """The names of the backends whose library is installed here."""
    return tuple(
        name for name, entry in _KNOWN.items() if entry.library is None or find_spec(entry.library)
    )


def backend(name: str) -> Backend:
    """Give a backend, its library imported. Raises `BackendError` when it cannot run here."""
    entry = _KNOWN.get(name)
    if entry is None:
        raise BackendError(
            f"there is no backend {shown(name)}{did_you_mean(str(name), _KNOWN)}; "
            f"known: {listed(_KNOWN)}; installed here: {listed(runnable())}"
        )
    if name not in runnable():
        raise BackendError(
            f"backend {name!r} needs {entry.library}: {entry.install}; "
            f"installed here: {listed(runnable())}"
        )
    try:
        module = import_module(entry.module)
    except ImportError as error:
        raise BackendError(
            f"backend {name!r} cannot be loaded: {error}; installed here: {listed(runnable())}"
        ) from error
    return cast(Backend, getattr(module, entry.backend)())


def engine_paths(bundle: Bundle, plan: Plan, backend: str) -> dict[str, str]:
    """Give the path in the bundle of every stage's engine for `backend`.

    Raises `BackendError` when a stage has none.
    """
    for name, stage in plan.stages.items():
        if backend not in stage.engines:
            raise BackendError(
                f"bundle {bundle.path}, plan {plan.name!r}: stage {name!r} has no engine for "
                f"{backend}, but for {listed(stage.engines)}; "
                f"export again with --backend {backend}, or play with one of those"
            )
    return {name: stage.engines[backend] for name, stage in plan.stages.items()}
