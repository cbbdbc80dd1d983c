"""Plans and manifests written as JSON text, always in the newest format.

Writing is canonical: equal plans give equal text, one line a value, call and step, so that two
exports can be compared with `diff`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import copysign
from typing import Any

from keepstep.runtime.format.plan import (
    FORMAT_VERSION,
    VALUE_KINDS,
    Binding,
    Call,
    Default,
    Manifest,
    Plan,
    Stage,
    TensorType,
    Value,
)
from keepstep.runtime.format.strict_json import MAX_INT


def plan_to_json(plan: Plan) -> str:
    """Write a plan.

    Values come by kind and name, stages in the order of their first call, tensors by name.
    """
    first_call = {call.stage: i for i, call in reversed(list(enumerate(plan.calls)))}
    values = sorted(plan.values, key=lambda name: (_kind_order(plan.values[name]), name))
    stages = sorted(plan.stages, key=lambda name: (first_call.get(name, len(plan.calls)), name))
    return _document(
        {
            "keepstep": _line(FORMAT_VERSION),
            "name": _line(plan.name),
            "arena_bytes": _line(plan.arena_bytes),
            "values": _block({name: _line(_value_data(plan.values[name])) for name in values}),
            "stages": _block(
                {name: _block(_lines(_stage_data(plan.stages[name])), indent=4) for name in stages}
            ),
            "calls": _rows(_call_data(call) for call in plan.calls),
            "steps": _rows(vars(step) for step in plan.steps),
        }
    )


def manifest_to_json(manifest: Manifest) -> str:
    """Write bundle.json; tokenizers come by name, files by path."""
    return _document(
        {
            "keepstep": _line(FORMAT_VERSION),
            "producer": _line(manifest.producer),
            "model": _block(_lines(manifest.model)),
            "plans": _line(list(manifest.plans)),
            "tokenizers": _block(
                {name: _line(vars(entry)) for name, entry in sorted(manifest.tokenizers.items())}
            ),
            "files": _block(
                {path: _line(vars(entry)) for path, entry in sorted(manifest.files.items())}
            ),
        }
    )


def _kind_order(value: Value) -> int:
    order = ("input", "output", "state", "scratch", "constant")
    return order.index(value.kind) if value.kind in VALUE_KINDS else len(order)


def _value_data(value: Value) -> dict[str, Any]:
    optional = {"offset": value.offset, "file": value.file, "tensor": value.tensor}
    return {
        "kind": value.kind,
        **_type_data(value.type),
        **{key: given for key, given in optional.items() if given is not None},
        **({"feed": True} if value.feed else {}),
        **({"range": [_shortest(bound) for bound in value.range]} if value.range else {}),
        **({} if value.default is None else {"default": _default_data(value.default)}),
    }


def _default_data(default: Default) -> Any:
    if isinstance(default, tuple):
        return [_shortest(entry) for entry in default]
    return _shortest(default)


def _shortest(number: float) -> float:
    """A number as a person writes it: 49407, not 49407.0; a boolean as it is, and so is -0.0."""
    whole = not isinstance(number, bool) and float(number).is_integer() and abs(number) <= MAX_INT
    # An int has no sign of zero, and a default has one.
    return number if not whole or (number == 0 and copysign(1, number) < 0) else int(number)


def _type_data(tensor: TensorType) -> dict[str, Any]:
    return {"dtype": tensor.dtype, "shape": list(tensor.shape)}


def _stage_data(stage: Stage) -> dict[str, Any]:
    return {
        "macs": stage.macs,
        "engines": dict(sorted(stage.engines.items())),
        "inputs": {name: _type_data(tensor) for name, tensor in sorted(stage.inputs.items())},
        "outputs": {name: _type_data(tensor) for name, tensor in sorted(stage.outputs.items())},
        "weights": dict(sorted(stage.weights.items())),
        **({"in_place": dict(sorted(stage.in_place.items()))} if stage.in_place else {}),
    }


def _call_data(call: Call) -> dict[str, Any]:
    def bindings(bound: Mapping[str, Binding]) -> dict[str, Any]:
        return {
            tensor: binding.value if binding.row is None else [binding.value, binding.row]
            for tensor, binding in sorted(bound.items())
        }

    return {
        "stage": call.stage,
        **({} if call.step is None else {"step": call.step}),
        "reads": bindings(call.reads),
        "writes": bindings(call.writes),
    }


def _line(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False)


def _lines(data: Mapping[str, object]) -> dict[str, str]:
    return {key: _line(value) for key, value in data.items()}


def _block(members: Mapping[str, str], indent: int = 2) -> str:
    return _joined("{", [f"{_line(key)}: {text}" for key, text in members.items()], "}", indent)


def _rows(rows: Iterable[Mapping[str, Any]]) -> str:
    return _joined("[", [_line(dict(row)) for row in rows], "]", 2)


def _joined(opening: str, parts: list[str], closing: str, indent: int) -> str:
    if not parts:
        return opening + closing
    margin = " " * (indent + 2)
    return f"{opening}\n{margin}" + f",\n{margin}".join(parts) + f"\n{' ' * indent}{closing}"


def _document(members: Mapping[str, str]) -> str:
    return _block(members, indent=0) + "\n"
