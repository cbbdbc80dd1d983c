"""Rule 19 of docs/plan-format.md: steps, for people and tools; format 1 had a stricter one."""

from __future__ import annotations

from collections.abc import Iterator
from unicodedata import category

from keepstep.runtime.format.plan import Plan
from keepstep.runtime.quoting import quote, quote_names

KINDS_OF_FORMAT_1 = ("full", "shallow", "skip")
LONGEST_LABEL = 200  # characters


def rule_19_steps(plan: Plan) -> Iterator[str]:
    """`step` lies within `steps` and does not fall from call to call; `kept` is null or at least 1.

    A label is 1 to 200 characters without control characters. Several calls may belong to a step,
    and a step may have none. In format 1 the label is a kind: a step of kind `skip` has no call,
    those of kind `full` or `shallow` have exactly one.
    """
    for s, step in enumerate(plan.steps):
        if plan.version == 1 and step.label not in KINDS_OF_FORMAT_1:
            yield f"steps[{s}].kind: {quote(step.label)}, known: {quote_names(KINDS_OF_FORMAT_1)}"
        if not 1 <= len(step.label) <= LONGEST_LABEL:
            yield (f"steps[{s}].label: {len(step.label)} characters, expected 1 to {LONGEST_LABEL}")
        if any(category(character) == "Cc" for character in step.label):
            yield f"steps[{s}].label: {quote(step.label)} has control characters, expected none"
        if step.kept is not None and step.kept < 1:
            yield f"steps[{s}].kept: {step.kept}, expected null or at least 1"
    calls_of = [0] * len(plan.steps)
    last = 0
    for i, call in enumerate(plan.calls):
        if call.step is None:
            continue
        if call.step >= len(plan.steps):
            yield f"calls[{i}].step: {call.step}, but there are {len(plan.steps)} steps"
            continue
        if call.step < last:
            yield f"calls[{i}].step: {call.step} after {last}; steps do not fall"
        last = call.step
        calls_of[call.step] += 1
    if plan.version == 1:
        for s, (step, found) in enumerate(zip(plan.steps, calls_of, strict=True)):
            expected = 0 if step.label == "skip" else 1
            if found != expected:
                yield f"steps[{s}]: calls of kind {step.label}: expected {expected}, found {found}"
