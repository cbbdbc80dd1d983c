"""Rules 11, 12 and 13 of docs/plan-format.md: stages and bindings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from keepstep.runtime.format.plan import Binding, Plan, Stage, TensorType
from keepstep.runtime.format.rules_values import type_text
from keepstep.runtime.quoting import did_you_mean, quote, quote_names


def rule_11_stages(plan: Plan) -> Iterator[str]:
    """A call's stage exists, and its `reads` and `writes` name exactly the inputs and outputs.

    Every stage is called at least once and has at least one engine and one output.
    """
    for i, call in enumerate(plan.calls):
        stage = plan.stages.get(call.stage)
        if stage is None:
            hint = did_you_mean(call.stage, plan.stages)
            yield f"calls[{i}].stage: there is no stage {quote(call.stage)}{hint}"
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
        yield f"{place}: names {quote_names(extra)}, which the stage's {what} do not"
    if missing := sorted(tensors.keys() - bound.keys()):
        yield f"{place}: does not bind {quote_names(missing)} of the stage's {what}"


def rule_12_bindings(plan: Plan) -> Iterator[str]:
    """A binding's value exists, has the tensor's dtype, and its shape or rows fit the tensor.

    `weights` bind whole constants; a tensor is not both an input and a weight. `in_place` pairs an
    output with an input of its type that no other output has, and calls bind both alike.
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
                yield f"{place}: expected a constant, found {quote(value)} of kind {kind}"
            if tensor in stage.inputs:
                yield f"{place}: is an input of the stage, too"
        yield from _in_place_faults(f"stages.{name}.in_place", stage)
    for i, call in enumerate(plan.calls):
        for output, input_ in plan.stages[call.stage].in_place.items():
            written, read = call.writes.get(output), call.reads.get(input_)
            if written and read and written != read:
                yield (
                    f"calls[{i}].writes.{output}: is {quote(input_)} in place, but bound to "
                    f"{_binding_text(written)} where that is bound to {_binding_text(read)}; "
                    "bind both to the same value and row"
                )


def _in_place_faults(place: str, stage: Stage) -> Iterator[str]:
    """What keeps a stage's `in_place` from pairing outputs with inputs."""
    output_of: dict[str, str] = {}
    for output, input_ in stage.in_place.items():
        if output not in stage.outputs:
            hint = did_you_mean(output, stage.outputs)
            yield f"{place}: the stage has no output {quote(output)}{hint}"
        elif input_ not in stage.inputs:
            hint = did_you_mean(input_, stage.inputs)
            yield f"{place}.{output}: the stage has no input {quote(input_)}{hint}"
        elif stage.inputs[input_] != stage.outputs[output]:
            yield (
                f"{place}.{output}: types differ: the output is "
                f"{type_text(stage.outputs[output])}, input {quote(input_)} is "
                f"{type_text(stage.inputs[input_])}"
            )
        elif input_ in output_of:
            yield f"{place}.{output}: {quote(input_)} is already {quote(output_of[input_])}"
        output_of[input_] = output


def _binding_text(binding: Binding) -> str:
    """A binding as a person writes it, such as `'history' from row 3`."""
    rows = "" if binding.row is None else f" from row {binding.row}"
    return f"{quote(binding.value)}{rows}"


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
    return f"{fault}: the tensor is {wanted}, value {quote(binding.value)} is {given}"


def _no_value(plan: Plan, name: str) -> str:
    return f"there is no value {quote(name)}{did_you_mean(name, plan.values)}"


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
            name = quote(call.writes[tensor].value)
            yield f"calls[{i}].writes.{tensor}: writes {name}, {fault}"
