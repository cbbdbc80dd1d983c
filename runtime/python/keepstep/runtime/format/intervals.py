"""Sets of bytes as sorted, disjoint, non-touching intervals [start, end)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class IntervalSet:
    """A growing set of bytes. n calls of `add` cost O(n log n) comparisons in all."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> list[tuple[int, int]]:
        """Put in the bytes [start, end); give those intervals of it that are new."""
        first = bisect_left(self._ends, start)  # the first interval that touches [start, end)
        last = bisect_right(self._starts, end)  # one behind the last
        touched = list(zip(self._starts[first:last], self._ends[first:last], strict=True))
        new = []
        at = start
        for known_start, known_end in touched:
            if at < known_start and at < end:
                new.append((at, min(known_start, end)))
            at = max(at, known_end)
        if at < end:
            new.append((at, end))
        self._starts[first:last] = [min([start, *(s for s, _ in touched)])]
        self._ends[first:last] = [max([end, *(e for _, e in touched)])]
        return new

    def covers(self, start: int, end: int) -> bool:
        """Whether all bytes of [start, end) are in the set."""
        i = bisect_right(self._starts, start) - 1
        return i >= 0 and self._ends[i] >= end

    def meets(self, start: int, end: int) -> bool:
        """Whether any byte of [start, end) is in the set."""
        i = bisect_right(self._ends, start)  # the first interval that ends behind `start`
        return i < len(self._starts) and self._starts[i] < end
