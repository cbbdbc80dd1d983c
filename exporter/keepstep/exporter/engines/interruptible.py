"""Long work of a library whose callbacks swallow Ctrl-C, done where Ctrl-C does not come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

_PATIENCE = 1.0  # seconds that cancelled work has to end by itself

T = TypeVar("T")


def interruptible(work: Callable[[], T], cancel: Callable[[], None]) -> T:
    """What `work` returns or raises; it runs in a thread, and an interrupt ends the waiting.

    Interrupts are raised in the main thread only. `cancel` then asks the work to end. Work that
    does not listen for a while is left behind: a process that ends does not wait for it.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    try:
        threading.Thread(target=run, daemon=True).start()
        return outcome.result()
    except KeyboardInterrupt:
        cancel()
        wait([outcome], _PATIENCE)
        raise
