"""Turns, medians and what is counted as the loop."""

from __future__ import annotations

import pytest
from exporter.bench_reports import (
    CACHED,
    COMPILED,
    FULL,
    StillConfiguration,
    measured,
    picture,
    plan,
    run,
)

from keepstep.bench.configurations import Run
from keepstep.bench.measure import Measured, Spread, measure


def configuration(name: str, rounds: int, played: list[str]) -> StillConfiguration:
    return StillConfiguration(
        plan(name, FULL), "x", [run(FULL, COMPILED, picture(0))], rounds, played=played
    )


def test_configurations_take_turns_behind_one_warm_up_each() -> None:
    played: list[str] = []
    told: list[tuple[str, int, int]] = []
    configurations = [
        configuration("a", 2, played),
        configuration("b", 1, played),
        configuration("none", 0, played),
    ]
    found = measure(configurations, lambda *what: told.append(what))
    assert played == ["a", "b", "a", "b", "a"]
    assert [(m.configuration.plan, len(m.runs)) for m in found] == [("a", 2), ("b", 1)]
    assert [(done, total) for _, done, total in told] == [(i, 5) for i in range(5)]
    assert [what for what, *_ in told][::4] == ["warm up: a, x", "round 2: a, x"]


def test_a_spread_is_the_median_between_the_fastest_and_the_slowest() -> None:
    assert Spread.of([3.0, 1.0, 9.0, 2.0]) == Spread(2.5, 1.0, 9.0)


def test_the_loop_is_the_whole_less_what_is_no_call_of_the_network() -> None:
    """Whatever the calls take one by one: on a GPU they are launched as one."""
    calls = (("text", 0.5), ("prompt", 0.25), ("full", 8.0), ("shallow", 8.0), ("decode", 1.0))
    one = Measured(configuration("a", 1, []), [Run(picture(0), 4.0, calls)])
    assert one.loop_seconds.median == pytest.approx(4.0 - 1.75)
    assert one.seconds.median == 4.0


def test_the_loop_knows_the_labels_of_its_plan() -> None:
    calls = (("text", 0.5), ("K of 60 %", 2.0), ("decode", 1.0))
    one = Measured(configuration("a", 1, []), [Run(picture(0), 4.0, calls, loop={"K of 60 %"})])
    assert one.loop_seconds.median == pytest.approx(4.0 - 1.5)


def test_a_timeline_has_the_median_of_every_call_in_order() -> None:
    runs = [Run(picture(0), 1.0, (("full", s), ("skip", 2 * s))) for s in (1.0, 5.0, 2.0)]
    one = Measured(configuration("a", 1, []), runs)
    assert one.timeline == (("full", 2.0), ("skip", 4.0))
    assert one.call_seconds == {"full": Spread(2.0, 1.0, 5.0), "skip": Spread(4.0, 2.0, 10.0)}


def test_calls_of_each_kind_are_gathered_over_all_rounds() -> None:
    kinds = measured()[2].call_seconds
    assert set(kinds) == {"text", "decode", *CACHED}
    assert kinds["shallow"] == Spread(0.25, 0.25, 0.25)
