"""What a command left, and what must hold when it refuses."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What a command left."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


def refused(outcome: Outcome, *words: str) -> str:
    """Check that a command ended with one message for the user; gives the message."""
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert outcome.err.startswith("keepstep: "), outcome.err
    assert len(outcome.err.rstrip().splitlines()) == 1, outcome.err
    assert len(outcome.err) < 1000, "a page of text is no message"
    for word in words:
        assert word in outcome.err, (word, outcome.err)
    return outcome.err


def environment(**extra: str) -> dict[str, str]:
    """What a child process is given."""
    return {**os.environ, "PYTHONWARNINGS": "", **extra}
