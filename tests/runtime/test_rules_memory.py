"""Rules 13 to 18 against byte-by-byte simulations of tiny random plans."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from keepstep.runtime.format.plan import Binding, Call, Plan, Stage, TensorType, Value
from keepstep.runtime.format.rules_calls import rule_13_read_only_values
from keepstep.runtime.format.rules_memory import (
    rule_14_aliasing,
    rule_15_written_before_read,
    rule_16_no_trace,
    rule_17_liveness,
    rule_18_outputs,
)
from keepstep.runtime.player.player import calls_to_launch

ARENA = 12
POISON = -1
Touch = tuple[str, int, int]  # value, first byte, one behind the last

KINDS = st.sampled_from(["scratch", "scratch", "scratch", "input", "output", "state", "feed"])


@st.composite
def plans(draw: st.DrawFn, careful: bool = False) -> Plan:
    """Plans of bytes whose offsets need not be aligned: rule 9 is not looked at here.

    Careful ones are written with rules 13 to 15 in mind, so that many are accepted. Some outputs
    are in the place of an input, as rule 12 wants it.
    """
    values = {}
    for v in range(draw(st.integers(1, 5))):
        kind = draw(KINDS)
        size = draw(st.integers(1, 4))
        values[f"v{v}"] = Value(
            kind="scratch" if kind == "feed" else kind,
            type=TensorType("uint8", (size,)),
            offset=draw(st.integers(0, ARENA - size)),
            feed=kind == "feed",
        )
    stages, calls = {}, []
    written: set[str] = set()
    for i in range(draw(st.integers(1, 5))):
        readable = writable = set(values)
        if careful:
            readable = {v for v in values if v in written or values[v].kind in ("input", "state")}
        reads = draw(touches(values, readable, 0, 2, careful))
        if careful:
            writable = {v for v in values if values[v].kind != "input"} - {r[0] for r in reads}
        writes = draw(touches(values, writable, 1, 2, careful))
        in_place = {}
        for k, touch in enumerate(reads):
            likely = touch[0] in written if careful else values[touch[0]].kind != "input"
            if likely and draw(st.booleans()):
                in_place[f"t{len(writes)}"] = f"t{k}"
                writes.append(touch)
        if not writes:
            break
        written.update(write[0] for write in writes)
        stages[f"s{i}"] = Stage(types(reads), types(writes), {"null": "x"}, in_place=in_place)
        calls.append(Call(f"s{i}", bindings(reads), bindings(writes)))
    return Plan("random", values, stages, tuple(calls), (), ARENA)


@st.composite
def touches(
    draw: st.DrawFn, values: dict[str, Value], names: set[str], least: int, most: int, whole: bool
) -> list[Touch]:
    found = []
    for _ in range(draw(st.integers(least, most))) if names else ():
        name = draw(st.sampled_from(sorted(names)))
        size = values[name].type.size
        if whole and values[name].kind != "state":
            found.append((name, 0, size))
        else:
            start = draw(st.integers(0, size - 1))
            found.append((name, start, draw(st.integers(start + 1, size))))
    return found


def types(touched: list[Touch]) -> dict[str, TensorType]:
    return {f"t{i}": TensorType("uint8", (end - at,)) for i, (_, at, end) in enumerate(touched)}


def bindings(touched: list[Touch]) -> dict[str, Binding]:
    return {f"t{i}": Binding(name, start) for i, (name, start, _) in enumerate(touched)}


def touched(call: Call, stage: Stage) -> tuple[list[Touch], list[Touch]]:
    def of(bound: dict[str, Binding], tensors: dict[str, TensorType]) -> list[Touch]:
        return [
            (b.value, b.row or 0, (b.row or 0) + tensors[tensor].shape[0])
            for tensor, b in bound.items()
        ]

    return of(dict(call.reads), dict(stage.inputs)), of(dict(call.writes), dict(stage.outputs))


def all_touched(plan: Plan) -> Iterator[tuple[list[Touch], list[Touch]]]:
    for call in plan.calls:
        yield touched(call, plan.stages[call.stage])


def in_arena(plan: Plan, touch: Touch) -> list[int]:
    name, start, end = touch
    offset = plan.values[name].offset or 0
    return list(range(offset + start, offset + end))


def own_bytes(touched: list[Touch]) -> list[tuple[str, int]]:
    return [(name, byte) for name, start, end in touched for byte in range(start, end)]


def keeps_14(plan: Plan) -> bool:
    for call in plan.calls:
        stage = plan.stages[call.stage]
        reads, writes = touched(call, stage)
        written = np.zeros(ARENA, int)
        for write in writes:
            written[in_arena(plan, write)] += 1
        if written.max() > 1:
            return False
        output_of = {input_: output for output, input_ in stage.in_place.items()}
        outputs = dict(zip(stage.outputs, writes, strict=True))
        for tensor, read in zip(stage.inputs, reads, strict=True):
            by_others = written.copy()
            if tensor in output_of:
                by_others[in_arena(plan, outputs[output_of[tensor]])] -= 1
            if by_others[in_arena(plan, read)].any():
                return False
    return True


def keeps_15(plan: Plan) -> bool:
    written: set[tuple[str, int]] = set()
    for reads, writes in all_touched(plan):
        needed = {
            (name, byte)
            for name, byte in own_bytes(reads)
            if plan.values[name].kind in ("scratch", "output")
        }
        if not needed <= written:
            return False
        written.update(own_bytes(writes))
    return True


def keeps_16(plan: Plan) -> bool:
    written: set[tuple[str, int]] = set()
    cold: set[tuple[str, int]] = set()
    for reads, writes in all_touched(plan):
        cold.update(
            (name, byte)
            for name, byte in own_bytes(reads)
            if plan.values[name].kind == "state" and (name, byte) not in written
        )
        written.update(own_bytes(writes))
    return not cold & written


def keeps_17(plan: Plan) -> bool:
    """Mark every byte of every value at every moment at which the value is alive."""
    end = len(plan.calls)
    occupied = np.zeros((end + 2, ARENA), int)  # moment −1 is the last row
    for name, value in plan.values.items():
        moments = [
            i
            for i, (reads, writes) in enumerate(all_touched(plan))
            if any(touch[0] == name for touch in reads + writes)
        ]
        if value.kind == "input" or value.feed:
            moments.append(-1)
        if value.kind == "output" and moments:
            moments.append(end)
        if value.kind == "state":
            moments = [-1, end]
        if moments:
            bytes_ = in_arena(plan, (name, 0, value.type.size))
            for moment in range(min(moments), max(moments) + 1):
                occupied[moment, bytes_] += 1
    return bool(occupied.max() <= 1)


def keeps_18(plan: Plan) -> bool:
    written = {byte for _, writes in all_touched(plan) for byte in own_bytes(writes)}
    return all(
        (name, byte) in written
        for name, value in plan.values.items()
        if value.kind == "output"
        for byte in range(value.type.size)
    )


@settings(max_examples=400, deadline=None)
@given(plans())
def test_each_rule_agrees_with_its_simulation(plan: Plan) -> None:
    for rule, keeps in (
        (rule_14_aliasing, keeps_14),
        (rule_15_written_before_read, keeps_15),
        (rule_16_no_trace, keeps_16),
        (rule_17_liveness, keeps_17),
        (rule_18_outputs, keeps_18),
    ):
        findings = list(rule(plan))
        event(f"{rule.__name__}: {'broken' if findings else 'kept'}")
        assert bool(findings) != keeps(plan), (rule.__name__, findings)


@settings(max_examples=1000, deadline=None)
@given(plans(careful=True), st.data())
def test_a_plan_that_keeps_the_rules_reads_what_was_written(
    plan: Plan, data: st.DataObject
) -> None:
    """Two runs in one arena full of poison: every read sees its value, and both runs the same."""
    rules = (
        rule_13_read_only_values,
        rule_14_aliasing,
        rule_15_written_before_read,
        rule_16_no_trace,
        rule_17_liveness,
        rule_18_outputs,
    )
    if any(finding for rule in rules for finding in rule(plan)):
        event("refused")
        return
    event("accepted")
    if any(stage.in_place for stage in plan.stages.values()):
        event("accepted, in place")
    feeds = {name for name, value in plan.values.items() if value.feed}
    given = data.draw(st.sets(st.sampled_from(sorted(feeds)))) if feeds else set()
    written_together = [
        {binding.value for binding in call.writes.values()} & feeds for call in plan.calls
    ]
    while grown := {n for group in written_together if group & given for n in group} - given:
        given |= grown  # a call's feed values are given together
    arena = np.full(ARENA, POISON)
    own = {name: np.full(value.type.size, POISON) for name, value in plan.values.items()}
    for name, value in plan.values.items():
        if value.kind == "state":
            own[name][:] = 0
            arena[in_arena(plan, (name, 0, value.type.size))] = 0
    assert run(plan, given, arena, own, fed=100) == run(plan, given, arena, own, fed=100)


def run(
    plan: Plan, given: set[str], arena: np.ndarray, own: dict[str, np.ndarray], fed: int
) -> list[list[int]]:
    """Play with numbers that name who wrote them; give all that was read, and the outputs."""
    seen = []

    def write(touch: Touch, number: int) -> None:
        name, start, end = touch
        numbers = number + np.arange(start, end)
        own[name][start:end] = numbers
        arena[in_arena(plan, touch)] = numbers

    def read(touch: Touch) -> None:
        name, start, end = touch
        found = arena[in_arena(plan, touch)]
        assert POISON not in found
        assert np.array_equal(found, own[name][start:end])
        seen.append(found.tolist())

    for name, value in plan.values.items():
        if value.kind != "state":
            own[name][:] = POISON
        if value.kind == "input" or name in given:
            write((name, 0, value.type.size), fed)
    for i in calls_to_launch(plan, given):
        reads, writes = touched(plan.calls[i], plan.stages[plan.calls[i].stage])
        for touch in reads:
            read(touch)
        for touch in writes:
            write(touch, 1000 * (i + 1))
    for name, value in plan.values.items():
        if value.kind == "output":
            read((name, 0, value.type.size))
    return seen
