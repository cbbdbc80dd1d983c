"""Rules 11, 12, 13 and 19 of docs/plan-format.md: stages, bindings and steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from keepstep.runtime.format.plan import STEP_KINDS, Binding, Plan, TensorType
from keepstep.runtime.format.rules_values import type_text
from keepstep.runtime.wording import did_you_mean, listed, shown


def rule_11_stages(plan: Plan) -> Iterator[str]:
    """A call's stage exists, and its `reads` and `writes` name exactly the inputs and outputs.

    Every stage is called at least once and has at least one engine and one output.
    """
    for i, call in enumerate(plan.calls):
        stage = plan.stages.get(call.stage)
        if stage is None:
            hint = did_you_mean(call.stage, plan.stages)
            yield f"calls[{i}].stage: there is no stage {shown(call.stage)}{hint}"
            continue
        yield from _same_names(f"calls[{i}].reads", call.reads, "inputs", stage.inputs)
        yield from _same_names(f"calls[{i}].writes", call.writes, "outputs", stage.outputs)
    called = {call.stage for call in plan.calls}
    for name, stage in plan.stages.items():
        if name not in called:
            yield f"stages.{name}: no call launches it"
        if not stage.engines:
            yield f"stages.{name}.engines: expected at least one engine"
        if not stage.outputs:
            yield f"stages.{name}.outputs: expected at least one output"


def _same_names(
    place: str, bound: Mapping[str, Binding], what: str, tensors: Mapping[str, TensorType]
) -> Iterator[str]:
    if extra := sorted(bound.keys() - tensors.keys()):
        yield f"{place}: names {listed(extra)}, which the stage's {what} do not"
    if missing := sorted(tensors.keys() - bound.keys()):
        yield f"{place}: does not bind {listed(missing)} of the stage's {what}"


def rule_12_bindings(plan: Plan) -> Iterator[str]:
    """A binding's value exists, has the tensor's dtype, and its shape or rows fit the tensor.

    `weights` bind whole constants; a tensor is not both an input and a weight.
    """
    for i, call in enumerate(plan.calls):
        stage = plan.stages[call.stage]
        for part, bound, tensors in (
            ("reads", call.reads, stage.inputs),
            ("writes", call.writes, stage.outputs),
        ):
            for tensor, binding in bound.items():
                if fault := _binding_fault(plan, binding, tensors[tensor]):
                    yield f"calls[{i}].{part}.{tensor}: {fault}"
    for name, stage in plan.stages.items():
        for tensor, value in stage.weights.items():
            place = f"stages.{name}.weights.{tensor}"
            if value not in plan.values:
                yield f"{place}: {_no_value(plan, value)}"
            elif plan.values[value].kind != "constant":
                kind = plan.values[value].kind
                yield f"{place}: expected a constant, found {shown(value)} of kind {kind}"
            if tensor in stage.inputs:
                yield f"{place}: is an input of the stage, too"


def _binding_fault(plan: Plan, binding: Binding, tensor: TensorType) -> str | None:
    value = plan.values.get(binding.value)
    if value is None:
        return _no_value(plan, binding.value)
    shape = value.type.shape
    if value.type.dtype != tensor.dtype:
        fault = "dtypes differ"
    elif binding.row is None:
        if shape == tensor.shape:
            return None
        fault = "shapes differ"
    elif not shape or len(shape) != len(tensor.shape) or shape[1:] != tensor.shape[1:]:
        fault = "rows differ in shape"
    elif binding.row + tensor.shape[0] > shape[0]:
        fault = f"rows {binding.row} to {binding.row + tensor.shape[0] - 1} do not exist"
    else:
        return None
    wanted, given = type_text(tensor), type_text(value.type)
    return f"{fault}: the tensor is {wanted}, value {shown(binding.value)} is {given}"


def _no_value(plan: Plan, name: str) -> str:
    return f"there is no value {shown(name)}{did_you_mean(name, plan.values)}"


def rule_13_read_only_values(plan: Plan) -> Iterator[str]:
    """Nothing writes an `input` or a `constant`; who writes a `feed` value writes only such.

    Otherwise a call could neither be left out when its feed values are given, nor run without
    overwriting them.
    """
    for i, call in enumerate(plan.calls):
        values = {tensor: plan.values[binding.value] for tensor, binding in call.writes.items()}
        feeds = any(value.feed for value in values.values())
        for tensor, value in values.items():
            if value.kind in ("input", "constant"):
                fault = f"which is of kind {value.kind}"
            elif feeds and not value.feed:
                fault = "which is no feed value, beside feed values"
            else:
                continue
            name = shown(call.writes[tensor].value)
            yield f"calls[{i}].writes.{tensor}: writes {name}, {fault}"


def rule_19_steps(plan: Plan) -> Iterator[str]:
    """Step kinds are known, `step` lies within `steps` and does not fall from call to call.

    A step of kind `skip` has no call, the others exactly one; `kept` is null or at least 1.
    """
    for s, step in enumerate(plan.steps):
        if step.kind not in STEP_KINDS:
            yield f"steps[{s}].kind: {shown(step.kind)}, known: {listed(STEP_KINDS)}"
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
    for s, (step, found) in enumerate(zip(plan.steps, calls_of, strict=True)):
        expected = 0 if step.kind == "skip" else 1
        if found != expected:
            yield f"steps[{s}]: calls of kind {step.kind}: expected {expected}, found {found}"
