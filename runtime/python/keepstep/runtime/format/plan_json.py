"""Plans and manifests as JSON text: rules 1 and 2 of docs/plan-format.md.

Reading checks the grammar only; what the fields mean is checked in `validate.py`.
Writing is canonical: equal plans give equal text, one line a value, call and step, so that two
exports can be compared with `diff`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from keepstep.runtime.format.plan import (
    FORMAT_VERSION,
    VALUE_KINDS,
    Binding,
    Call,
    FileEntry,
    Manifest,
    Plan,
    Stage,
    Step,
    StepKind,
    TensorType,
    Tokenizer,
    Value,
    ValueKind,
)
from keepstep.runtime.format.strict_json import MAX_INT, Node, load
from keepstep.runtime.wording import shown


def plan_from_json(text: str | bytes, where: str = "plan") -> Plan:
    """Read a plan; `where` names its file in messages.

    Raises `BundleError` with rule 1 (grammar) or 2 (version) and the place in the file.
    """
    root = load(text, where)
    version = _version(root)
    plan = root.fields(("keepstep", "name", "arena_bytes", "values", "stages", "calls", "steps"))
    return Plan(
        name=plan["name"].text(),
        values={name: _value(node) for name, node in plan["values"].items()},
        stages={name: _stage(node) for name, node in plan["stages"].items()},
        calls=tuple(_call(node) for node in plan["calls"].elements()),
        steps=tuple(_step(node) for node in plan["steps"].elements()),
        arena_bytes=plan["arena_bytes"].integer(),
        version=version,
    )


def manifest_from_json(text: str | bytes, where: str = "bundle.json") -> Manifest:
    """Read bundle.json; raises `BundleError` with rule 1 (grammar) or 2 (version)."""
    root = load(text, where)
    version = _version(root)
    manifest = root.fields(("keepstep", "producer", "model", "plans", "tokenizers", "files"))
    return Manifest(
        producer=manifest["producer"].text(),
        model={key: node.text() for key, node in manifest["model"].items()},
        plans=tuple(node.text() for node in manifest["plans"].elements()),
        files={path: _file_entry(node) for path, node in manifest["files"].items()},
        tokenizers={name: _tokenizer(node) for name, node in manifest["tokenizers"].items()},
        version=version,
    )


def _version(root: Node) -> int:
    """Check the version before any other field: what a newer file holds, we cannot judge."""
    node = root.member("keepstep")
    version = node.integer()
    if version > FORMAT_VERSION:
        node.refuse(
            f"format version {version}, but this keepstep reads version {FORMAT_VERSION}; "
            "update keepstep, or export the bundle again with this one",
            rule=2,
        )
    if version != FORMAT_VERSION:
        node.refuse(f"format version {version}, expected {FORMAT_VERSION}", rule=2)
    return version


def _value(node: Node) -> Value:
    # Which of the optional fields a kind has is rule 8, and the known kinds are rule 6.
    fields = node.fields(("kind", "dtype", "shape"), ("offset", "file", "tensor", "feed", "range"))
    return Value(
        kind=cast(ValueKind, fields["kind"].text()),
        type=_tensor_type(fields),
        offset=fields["offset"].integer() if "offset" in fields else None,
        file=fields["file"].text() if "file" in fields else None,
        tensor=fields["tensor"].text() if "tensor" in fields else None,
        feed=fields["feed"].boolean() if "feed" in fields else False,
        range=_range(fields["range"]) if "range" in fields else None,
    )


def _range(node: Node) -> tuple[float, float]:
    bounds = [bound.number() for bound in node.elements()]
    if len(bounds) != 2:
        node.expected("[lowest, highest]")
    return bounds[0], bounds[1]


def _tensor_type(fields: Mapping[str, Node]) -> TensorType:
    shape = tuple(axis.integer() for axis in fields["shape"].elements())
    return TensorType(fields["dtype"].text(), shape)


def _stage(node: Node) -> Stage:
    fields = node.fields(("inputs", "outputs", "weights", "macs", "engines"))

    def tensors(key: str) -> dict[str, TensorType]:
        return {
            name: _tensor_type(tensor.fields(("dtype", "shape")))
            for name, tensor in fields[key].items()
        }

    return Stage(
        inputs=tensors("inputs"),
        outputs=tensors("outputs"),
        engines={backend: path.text() for backend, path in fields["engines"].items()},
        weights={tensor: value.text() for tensor, value in fields["weights"].items()},
        macs=fields["macs"].integer(),
    )


def _call(node: Node) -> Call:
    fields = node.fields(("stage", "reads", "writes"), ("step",))
    return Call(
        stage=fields["stage"].text(),
        reads={name: _binding(binding) for name, binding in fields["reads"].items()},
        writes={name: _binding(binding) for name, binding in fields["writes"].items()},
        step=fields["step"].integer() if "step" in fields else None,
    )


def _binding(node: Node) -> Binding:
    if node.is_text:
        return Binding(node.text())
    parts = list(node.elements()) if node.is_list else []
    if len(parts) != 2:
        node.expected("a value's name or [name, row]")
    return Binding(parts[0].text(), parts[1].integer())


def _step(node: Node) -> Step:
    fields = node.fields(("kind", "timestep", "kept"))
    kept = fields["kept"]
    return Step(
        kind=cast(StepKind, fields["kind"].text()),  # the known kinds are rule 19
        timestep=fields["timestep"].number(),
        kept=None if kept.is_null else kept.integer(),
    )


def _tokenizer(node: Node) -> Tokenizer:
    fields = node.fields(("file", "length", "pad"))
    return Tokenizer(fields["file"].text(), fields["length"].integer(), fields["pad"].integer())


def _file_entry(node: Node) -> FileEntry:
    fields = node.fields(("bytes", "sha256"))
    digest = fields["sha256"].text().lower()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        fields["sha256"].refuse(f"expected 64 hex digits, found {shown(digest)}")
    return FileEntry(fields["bytes"].integer(), digest)


def plan_to_json(plan: Plan) -> str:
    """Write a plan.

    Values come by kind and name, stages in the order of their first call, tensors by name.
    """
    first_call = {call.stage: i for i, call in reversed(list(enumerate(plan.calls)))}
    values = sorted(plan.values, key=lambda name: (_kind_order(plan.values[name]), name))
    stages = sorted(plan.stages, key=lambda name: (first_call.get(name, len(plan.calls)), name))
    return _document(
        {
            "keepstep": _line(plan.version),
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
            "keepstep": _line(manifest.version),
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
    }


def _shortest(number: float) -> float:
    """A number as a person writes it: 49407, not 49407.0."""
    return int(number) if number.is_integer() and abs(number) <= MAX_INT else number


def _type_data(tensor: TensorType) -> dict[str, Any]:
    return {"dtype": tensor.dtype, "shape": list(tensor.shape)}


def _stage_data(stage: Stage) -> dict[str, Any]:
    return {
        "macs": stage.macs,
        "engines": dict(sorted(stage.engines.items())),
        "inputs": {name: _type_data(tensor) for name, tensor in sorted(stage.inputs.items())},
        "outputs": {name: _type_data(tensor) for name, tensor in sorted(stage.outputs.items())},
        "weights": dict(sorted(stage.weights.items())),
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
