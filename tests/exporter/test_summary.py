from __future__ import annotations

from typing import Any

import pytest
from plans.edits import Mutation, both, drop, put
from plans.make import mutated, text_of
from plans.toy import as_format_1
from plans.valid import VALID

from keepstep.playing.summary import describe, step_counts, timeline
from keepstep.runtime.format.plan import Plan
from keepstep.runtime.format.plan_json import plan_from_json


def plan(mutation: Mutation) -> Plan:
    return plan_from_json(text_of(mutated(mutation)))


@pytest.mark.parametrize("mutation", [VALID["toy"], as_format_1])
def test_a_plan_of_the_exporter_is_written_as_its_schedule_is(mutation: Mutation) -> None:
    toy = plan(mutation)
    assert timeline(toy) == "F.s"
    assert step_counts(toy) == {"full": 1, "skip": 1, "shallow": 1}


def test_a_step_without_calls_is_skipped_whatever_its_label() -> None:
    without = plan(both(drop("calls", 2, "step"), put("steps", 1, "label", "forecast")))
    assert timeline(without) == "F.."
    assert step_counts(without) == {"full": 1, "forecast": 1, "shallow": 1}


def test_calls_are_grouped_by_labels_that_no_schedule_has() -> None:
    label = "K/V of 60 %"
    steps = [put("steps", s, "label", label) for s in (0, 2)]
    assert timeline(plan(both(*steps))) == "K.K"
    assert step_counts(plan(both(*steps))) == {label: 2, "skip": 1}


def test_defaults_are_described() -> None:
    inputs: dict[str, Any] = describe(plan(VALID["scalar-defaults"]))["inputs"]
    assert inputs["guidance_scale"]["default"] == 7.5
    assert inputs["given"]["default"] is False
    assert "default" not in inputs["noise"]
