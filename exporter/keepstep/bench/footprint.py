"""What players take of the host's memory when they are ready, in a process of its own."""

from __future__ import annotations

import ctypes
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from keepstep.runtime import Bundle
from keepstep.runtime.backends import backend

from .configurations import Configuration
from .memory import alone

_SMAPS = Path("/proc/self/smaps_rollup")
_OWN = ("Anonymous:", "Swap:")  # kilobytes that are no file's; mapped weights are one's


@dataclass(frozen=True)
class Footprint:
    """Bytes of a process's own memory: files that it maps, as the weights, are everybody's.

    one    with a player of a plan that is ready and has played nothing
    two    with one of the bundle's next plan beside it, or a second one where there is no other
    """

    one: int
    two: int


def footprint(configuration: Configuration) -> Footprint | None:
    """Of a plan's players; None for PyTorch, and where the system does not tell (not Linux).

    Raises `KeepstepError` where the process fails.
    """
    if configuration.model or not _SMAPS.exists():
        return None
    arguments = [str(configuration.bundle.path), configuration.plan, configuration.how]
    return Footprint(
        **json.loads(
            alone(__name__, arguments, f"memory of {configuration.label}, {configuration.how}")
        )
    )


def own_memory() -> int:
    """Bytes that are this process's alone and no file's, also those that were swapped out.

    What was freed is no part of them: glibc would keep it, as much as it happens to.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    lines = [line.split() for line in _SMAPS.read_text().splitlines()]
    return 1024 * sum(int(line[1]) for line in lines if line[0] in _OWN)


def _ready(folder: str, plan: str, how: str) -> Footprint:
    """Counted from an open bundle on: Python and the engine library are no part of it."""
    bundle = Bundle.open(folder)
    backend(how)
    before = own_memory()
    following = bundle.plans[(bundle.plans.index(plan) + 1) % len(bundle.plans)]
    with bundle.player(plan, how):
        one = own_memory() - before
        with bundle.player(following, how):
            return Footprint(one, own_memory() - before)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(vars(_ready(*sys.argv[1:]))))
