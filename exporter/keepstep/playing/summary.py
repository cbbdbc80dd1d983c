"""What a plan is, in numbers: the data behind `keepstep inspect` and the benchmark's ideal."""

from __future__ import annotations

from collections import Counter
from typing import Any

from keepstep.exporter.plan.memory import lifetimes, most_alive_at_once
from keepstep.exporter.schedule.schema import LETTER_OF
from keepstep.runtime import Plan
from keepstep.runtime.format.plan import Value


def launches(plan: Plan) -> dict[str, int]:
    """Launches by stage, in the order in which stages first run."""
    return dict(Counter(call.stage for call in plan.calls))


def loop_macs(plan: Plan) -> int:
    """Multiply–accumulate operations of all network calls of one run."""
    return sum(plan.stages[call.stage].macs for call in plan.calls if call.step is not None)


def step_counts(plan: Plan) -> dict[str, int]:
    """Calls of the sampler by label, in the order in which labels first stand."""
    return dict(Counter(step.label for step in plan.steps))


def timeline(plan: Plan) -> str:
    """A letter a call, as a schedule writes them: F full, s shallow, t kept tokens,
    . skipped.

    A step that launches nothing is skipped, whatever its label; a label that no schedule knows is
    told by its first letter.
    """
    launched = {call.step for call in plan.calls}
    return "".join(
        LETTER_OF.get(step.label, step.label[0]) if s in launched else LETTER_OF["skip"]
        for s, step in enumerate(plan.steps)
    )


def describe(plan: Plan) -> dict[str, Any]:
    """Everything that `keepstep inspect` shows of a plan, ready for JSON."""
    return {
        "name": plan.name,
        "calls": timeline(plan),
        "steps": step_counts(plan),
        "kept": sorted({step.kept for step in plan.steps if step.kept is not None}),
        "launches": launches(plan),
        "loop_macs": loop_macs(plan),
        "caches": caches(plan),
        "arena_bytes": plan.arena_bytes,
        "alive_bytes": most_alive_at_once(lifetimes(plan.values, plan.calls)),
        "weight_bytes": _constant_bytes(plan, weights=True),
        "table_bytes": _constant_bytes(plan, weights=False),
        "stages": {
            name: {
                "macs": stage.macs,
                "weights": len(stage.weights),
                "launches": launches(plan)[name],
                "engines": dict(stage.engines),
            }
            for name, stage in plan.stages.items()
        },
        "inputs": _types(plan, lambda value: value.kind == "input"),
        "feeds": _types(plan, lambda value: value.feed),
        "outputs": _types(plan, lambda value: value.kind == "output"),
    }


def caches(plan: Plan) -> dict[str, dict[str, int]]:
    """Stage → bytes of keys and values that it changes where they lie, and how many of them a call
    writes: the rows of the tokens that it keeps, and of the text that is in front of them."""
    found = {}
    for call in plan.calls:
        stage = plan.stages[call.stage]
        kept = None if call.step is None else plan.steps[call.step].kept
        types = [
            stage.outputs[name] for name in stage.in_place if len(stage.outputs[name].shape) == 3
        ]
        if kept is None or not types:
            continue
        tokens = min(t.shape[1] for t in types)
        written = sum(t.bytes * (kept + t.shape[1] - tokens) // t.shape[1] for t in types)
        found[call.stage] = {"bytes": sum(t.bytes for t in types), "written": written}
    return found


def _constant_bytes(plan: Plan, weights: bool) -> int:
    used = {name for stage in plan.stages.values() for name in stage.weights.values()}
    return sum(
        value.type.bytes
        for name, value in plan.values.items()
        if value.kind == "constant" and (name in used) == weights
    )


def _types(plan: Plan, chosen: Any) -> dict[str, dict[str, Any]]:
    def entry(value: Value) -> dict[str, Any]:
        range_ = {} if value.range is None else {"range": list(value.range)}
        default = {} if value.default is None else {"default": value.default}
        return {"dtype": value.type.dtype, "shape": list(value.type.shape), **range_, **default}

    return {name: entry(value) for name, value in plan.values.items() if chosen(value)}
