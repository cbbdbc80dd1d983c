"""How the command ends when it is told to, and what it does with an output that is closed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from keepstep.exporter.errors import ExportError

# What asks a process to end and would do so on the spot, with its parts left behind.
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Ended(KeyboardInterrupt):
    """A signal that ends the work; everything cleans up as after Ctrl-C."""


@contextmanager
def orderly() -> Iterator[list[signal.Signals]]:
    """Let SIGTERM and SIGHUP end the work as Ctrl-C does; gives the list of those that came.

    A second one ends the process on the spot. What was ignored, as by nohup, stays ignored.
    """
    came: list[signal.Signals] = []

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        came.append(signal.Signals(number))
        raise Ended

    taken = []
    try:
        with suppress(ValueError):  # not in the main thread: signals are somebody else's
            for number in _SIGNALS:
                if signal.getsignal(number) == signal.SIG_DFL:
                    signal.signal(number, end)
                    taken.append(number)
        yield came
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def check_output() -> None:
    """Refuse to work for an output that is closed; raises `ExportError`.

    The next file that is opened would take its number, and whatever a library prints would be
    written into that. A closed error stream only means that nobody reads it.
    """
    for number in (1, 2):
        with suppress(OSError):
            os.fstat(number)
            continue
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        raise ExportError(
            "the output is closed, so nobody would see what was done: redirect it to a file, or "
            "to /dev/null, and run again"
        )


def drop_output() -> None:
    """Write nothing more to an output that takes nothing more: it would fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
