"""Memory planning: one arena and a fixed offset for every value.

Every value has a static shape and the program is a straight line, so lifetimes are known. The
largest value is placed first, each at the lowest offset where it meets nothing that is alive
together with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keepstep.runtime.format.plan import ALIGNMENT, Call, Value


@dataclass(frozen=True)
class Lifetime:
    """How much memory, and from which call to which (both included)."""

    bytes: int
    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        """Whether some call needs both."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Arena:
    """Where everything lies."""

    offsets: Mapping[str, int]
    bytes: int


def lifetimes(values: Mapping[str, Value], calls: Sequence[Call]) -> dict[str, Lifetime]:
    """From a value's first write to its last use; longer for what the caller gives or gets.

    Constants do not live in the arena.
    """
    births: dict[str, int] = {}
    deaths: dict[str, int] = {}
    for i, call in enumerate(calls):
        for binding in call.writes.values():
            births.setdefault(binding.value, i)
        for binding in (*call.reads.values(), *call.writes.values()):
            deaths[binding.value] = i
    alive = {}
    for name, value in values.items():
        if value.kind == "constant":
            continue
        from_start = value.kind in ("input", "state") or value.feed
        to_end = value.kind in ("output", "state")
        alive[name] = Lifetime(
            bytes=value.type.bytes,
            first=-1 if from_start else births[name],
            last=len(calls) if to_end else deaths.get(name, -1),
        )
    return alive


def plan_memory(lifetimes: Mapping[str, Lifetime]) -> Arena:
    """Offsets (multiples of 256 bytes) at which no two values that are alive together overlap."""
    placed: list[tuple[int, int, Lifetime]] = []  # begin, end, lifetime
    offsets: dict[str, int] = {}
    for name in sorted(lifetimes, key=lambda name: (-lifetimes[name].bytes, name)):
        lifetime = lifetimes[name]
        offset = 0
        for begin, end in sorted((begin, end) for begin, end, v in placed if v.meets(lifetime)):
            if offset + lifetime.bytes <= begin:
                break
            offset = max(offset, _align(end))
        offsets[name] = offset
        placed.append((offset, offset + lifetime.bytes, lifetime))
    size = max((end for _, end, _ in placed), default=0)
    return Arena({name: offsets[name] for name in lifetimes}, size)


def most_alive_at_once(lifetimes: Mapping[str, Lifetime]) -> int:
    """Bytes of the largest set of values that some call needs together: no arena is smaller."""
    starts = {lifetime.first for lifetime in lifetimes.values()}
    return max(
        (sum(v.bytes for v in lifetimes.values() if v.first <= t <= v.last) for t in starts),
        default=0,
    )


def _align(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
