from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keepstep.runtime.format.intervals import IntervalSet

INTERVALS = st.tuples(st.integers(0, 20), st.integers(1, 8)).map(lambda p: (p[0], p[0] + p[1]))


@given(st.lists(INTERVALS), INTERVALS)
def test_an_interval_set_is_a_set_of_bytes(
    added: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    intervals = IntervalSet()
    expected: set[int] = set()
    for start, end in added:
        new = [byte for s, e in intervals.add(start, end) for byte in range(s, e)]
        assert sorted(new) == sorted({*range(start, end)} - expected)
        expected |= {*range(start, end)}
    assert intervals.covers(*asked) == ({*range(*asked)} <= expected)
    assert intervals.meets(*asked) == bool({*range(*asked)} & expected)


def test_a_set_of_terabytes_costs_nothing() -> None:
    intervals = IntervalSet()
    assert intervals.add(0, 2**40) == [(0, 2**40)]
    assert intervals.add(5, 2**39) == []
    assert intervals.covers(2**39, 2**40)
