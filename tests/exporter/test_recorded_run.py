"""A recorded run: its calls get the plan's numbers, and made again they are what they were."""

from __future__ import annotations

import numpy as np
import pytest
from exporter.played import schedule

from keepstep.exporter.check.golden import golden_inputs
from keepstep.exporter.check.recorded_run import EagerCalls, golden_run, record_run, without_network
from keepstep.exporter.check.selection_check import Marks
from keepstep.exporter.check.verify import marks_in
from keepstep.exporter.models import Model
from keepstep.exporter.plan.lowering import LoweredSchedule, lower_schedule
from keepstep.exporter.stages.factory import StageFactory
from keepstep.runtime.format.plan import Call, Plan, Step

CALLS = "FFsF.ss"
STEPS = [k for k, letter in enumerate(CALLS) if letter != "."]
FIRST = 2  # call of the plan that is the network's first: behind text and prompt
LAST_SHALLOW = FIRST + len(STEPS) - 1

# All that is looked at of a plan is which of its calls are the sampler's.
PLAN = Plan(
    name="test",
    values={},
    stages={},
    calls=tuple(
        Call(stage, {}, {}, step)
        for stage, step in [
            ("text", None),
            ("prompt", None),
            *(("network", k) for k in STEPS),
            ("decode", None),
        ]
    ),
    steps=tuple(Step("full", 0.0) for _ in CALLS),
    arena_bytes=0,
)
DECODE = len(PLAN.calls) - 1


def array(number: float) -> np.ndarray:
    return np.full(1, number, np.float32)


def test_calls_of_a_run_get_their_numbers_in_the_plan() -> None:
    recorded = {
        "calls.0.prediction": array(1),
        "calls.1.selection.0": array(2),
        "margins.5.selection.10": array(3),
        "outputs.latents": array(4),
    }
    assert golden_run(recorded, PLAN) == {
        f"calls.{FIRST}.prediction": array(1),
        f"calls.{FIRST + 1}.selection.0": array(2),
        f"margins.{LAST_SHALLOW}.selection.10": array(3),
        "outputs.latents": array(4),
    }


def test_of_a_rehearsal_the_calls_before_the_network_stay() -> None:
    kept = ["inputs.noise", "calls.0.text", "calls.1.prompt"]
    calls = [f"calls.{i}.x" for i in range(FIRST, len(PLAN.calls))]
    golden = {name: array(0) for name in [*kept, *calls]}
    assert list(without_network(golden, PLAN)) == kept


Recorded = tuple[dict[str, np.ndarray], EagerCalls]


@pytest.fixture(scope="module")
def entry(model: Model, factory: StageFactory) -> LoweredSchedule:
    written = schedule(CALLS, cache="branch: 0", prune="ratio: 0.4")
    return lower_schedule(model, factory, written)


@pytest.fixture(scope="module")
def recorded(model: Model, entry: LoweredSchedule) -> Recorded:
    """Golden values of a run, and what makes its calls again."""
    inputs = golden_inputs(model, entry, 1)
    golden = golden_run(record_run(model, entry, inputs, lambda done, total: None), PLAN)
    return golden, EagerCalls(lambda: model, entry, inputs)


def predictions(golden: dict[str, np.ndarray]) -> dict[int, np.ndarray]:
    return {i: golden[f"calls.{i}.prediction"] for i in range(FIRST, DECODE)}


def marks_at(golden: dict[str, np.ndarray], call: int) -> Marks:
    begin = f"calls.{call}."
    return marks_in({k.removeprefix(begin): a for k, a in golden.items() if k.startswith(begin)})


@pytest.mark.parametrize("call", [FIRST, FIRST + 2, LAST_SHALLOW])
def test_a_call_told_its_own_selections_is_the_call_that_it_was(
    recorded: Recorded, call: int
) -> None:
    """The same operations on the same numbers; a shallow call has the features of its full one."""
    golden, again = recorded
    marks = marks_at(golden, call)
    assert marks, "nothing is selected here"
    made = again(PLAN, predictions(golden), {call: marks})
    assert list(made) == [call], "no other call was asked for"
    np.testing.assert_array_equal(made[call].prediction, golden[f"calls.{call}.prediction"])
    for tensor, told in marks.items():
        np.testing.assert_array_equal(made[call].marks[tensor], told)
        slack = golden[f"margins.{call}.{tensor}"]
        np.testing.assert_array_equal(
            np.clip(made[call].margins[tensor], -1e4, 1e4).astype(np.float16), slack
        )


def test_a_call_told_a_worse_selection_gives_something_else_and_says_so(
    recorded: Recorded,
) -> None:
    golden, again = recorded
    told = {tensor: marks.copy() for tensor, marks in marks_at(golden, LAST_SHALLOW).items()}
    tensor = sorted(told)[0]
    row = told[tensor][0]
    n = len(row)
    similarity = golden[f"margins.{LAST_SHALLOW}.{tensor}"][1, 0].astype(np.float32)
    out = max(np.flatnonzero(row < n), key=lambda t: similarity[t])  # the surest of each part
    stays = max(np.flatnonzero(row == n), key=lambda t: similarity[t])
    row[stays], row[out] = row[out], n
    (made,) = again(PLAN, predictions(golden), {LAST_SHALLOW: told}).values()
    assert not np.array_equal(made.prediction, golden[f"calls.{LAST_SHALLOW}.prediction"])
    assert (made.margins[tensor][1, 0, [out, stays]] < 0).all()
