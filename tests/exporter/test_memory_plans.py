"""Memory plans of whole programs: laid out by the planner, checked by the runtime's rules, played.

The three share no code. Here a plan is played by stamping bytes with the name of the value that
wrote them: a value whose bytes carry another stamp when they are read was overwritten.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keepstep.exporter.plan.memory import lifetimes, plan_memory
from keepstep.runtime import BundleError
from keepstep.runtime.format.plan import Binding, Call, Plan, Stage, TensorType, Value
from keepstep.runtime.format.validate import check_plan

KINDS = st.sampled_from(["scratch", "scratch", "scratch", "output", "input", "state"])
# Next to the alignment a mistake by one shows.
SIZES = st.sampled_from([1, 255, 256, 257, 512, 700, 1500])
NOTHING = -1


def stamped(plan: Plan) -> list[str]:
    """Play `plan` with stamps for content; what was overwritten while it was needed."""
    stamps = np.full(plan.arena_bytes, NOTHING)
    numbers = {name: i for i, name in enumerate(plan.values)}

    def part(name: str) -> np.ndarray:
        value = plan.values[name]
        assert value.offset is not None
        return stamps[value.offset : value.offset + value.type.bytes]

    def lost(names: set[str], where: str) -> list[str]:
        return [f"{n} {where}" for n in sorted(names) if not (part(n) == numbers[n]).all()]

    states = {name for name, value in plan.values.items() if value.kind == "state"}
    for name, value in plan.values.items():
        if value.kind in ("input", "state"):
            part(name)[:] = numbers[name]
    faults = lost(states, "at the start")
    for i, call in enumerate(plan.calls):
        reads = {binding.value for binding in call.reads.values()}
        faults += lost(reads, f"before calls[{i}]")
        for binding in call.writes.values():
            part(binding.value)[:] = numbers[binding.value]
        # An engine may write an output before it has read every input.
        faults += lost(reads - {b.value for b in call.writes.values()}, f"in calls[{i}]")
    outputs = {name for name, value in plan.values.items() if value.kind == "output"}
    return faults + lost(outputs | states, "at the end")


@st.composite
def programs(draw: st.DrawFn) -> Plan:
    """A straight-line program without a memory plan: every offset is 0."""
    values: dict[str, Value] = {}
    stages: dict[str, Stage] = {}
    calls: list[Call] = []
    there: list[str] = []  # what can be read: given, or written by an earlier call

    def add(kind: str) -> str:
        name = f"v{len(values)}"
        values[name] = Value(kind, TensorType("uint8", (draw(SIZES),)), offset=0)  # type: ignore[arg-type]
        return name

    for _ in range(draw(st.integers(1, 3))):
        there.append(add(draw(st.sampled_from(["input", "state"]))))
    for i in range(draw(st.integers(1, 9))):
        reads = draw(st.lists(st.sampled_from(there), max_size=3, unique=True))
        kinds = draw(st.lists(st.sampled_from(["scratch", "scratch", "output"]), max_size=3))
        writes = [add(kind) for kind in kinds or ["scratch"]]
        again = [n for n in there if values[n].kind in ("scratch", "output") and n not in reads]
        if again and draw(st.booleans()):
            writes.append(draw(st.sampled_from(again)))
        stages[f"s{i}"] = Stage(
            inputs={name: values[name].type for name in reads},
            outputs={name: values[name].type for name in writes},
            engines={"null": f"stages/{i}"},
        )
        bound = [{name: Binding(name) for name in names} for names in (reads, writes)]
        calls.append(Call(f"s{i}", bound[0], bound[1]))
        there += [name for name in writes if name not in there]
    return Plan("random", values, stages, tuple(calls), (), 0)


def laid_out(program: Plan, offsets: dict[str, int]) -> Plan:
    values = {name: replace(v, offset=offsets[name]) for name, v in program.values.items()}
    ends = [offsets[name] + v.type.bytes for name, v in program.values.items()]
    return replace(program, values=values, arena_bytes=max(ends))


def no_constants(file: str, tensor: str) -> None:
    return None


@settings(max_examples=150, deadline=None)  # a busy machine is no failure
@given(program=programs())
def test_what_the_planner_lays_out_the_rules_accept_and_no_value_is_overwritten(
    program: Plan,
) -> None:
    arena = plan_memory(lifetimes(program.values, program.calls))
    plan = laid_out(program, dict(arena.offsets))
    assert plan.arena_bytes == arena.bytes
    check_plan(plan, no_constants)
    assert stamped(plan) == []


@settings(max_examples=150, deadline=None)
@given(program=programs(), data=st.data())
def test_whatever_memory_plan_the_rules_accept_overwrites_nothing(
    program: Plan, data: st.DataObject
) -> None:
    """Any offsets, most of them bad; those of the planner with one value moved, for more good."""
    offsets = dict(plan_memory(lifetimes(program.values, program.calls)).offsets)
    moved = data.draw(st.lists(st.sampled_from(sorted(offsets)), min_size=1, max_size=2))
    for name in moved:
        offsets[name] = 256 * data.draw(st.integers(0, 24))
    plan = laid_out(program, offsets)
    try:
        check_plan(plan, no_constants)
    except BundleError:
        assume(False)
    assert stamped(plan) == []


def test_the_stamps_show_a_value_that_was_overwritten() -> None:
    eight = TensorType("uint8", (8,))
    values = {
        "given": Value("input", eight, offset=0),
        "between": Value("scratch", eight, offset=256),
        "result": Value("output", eight, offset=512),
    }
    stages = {
        "a": Stage({}, {"between": eight}, {"null": "a"}),
        "b": Stage({"given": eight, "between": eight}, {"result": eight}, {"null": "b"}),
    }
    calls = (
        Call("a", {}, {"between": Binding("between")}),
        Call("b", {n: Binding(n) for n in ("given", "between")}, {"result": Binding("result")}),
    )
    plan = Plan("two", values, stages, calls, (), 520)
    assert stamped(plan) == []
    over_given = laid_out(plan, {"given": 0, "between": 0, "result": 512})
    assert stamped(over_given) == ["given before calls[1]", "given in calls[1]"]
    over_read = laid_out(plan, {"given": 0, "between": 256, "result": 256})
    assert stamped(over_read) == ["between in calls[1]"]
