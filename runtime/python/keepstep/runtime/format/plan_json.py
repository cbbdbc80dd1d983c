"""Plans and manifests read from JSON text: rules 1 and 2 of docs/plan-format.md.

Reading checks the grammar only; what the fields mean is checked in `validate.py`. A format-1 file
becomes the same data as a newer one, but for its `version`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from keepstep.runtime.format.plan import (
    READABLE_VERSIONS,
    Binding,
    Call,
    Default,
    FileEntry,
    Manifest,
    Plan,
    Stage,
    Step,
    TensorType,
    Tokenizer,
    Value,
    ValueKind,
)
from keepstep.runtime.format.strict_json import Node, load
from keepstep.runtime.quoting import quote

MOST_DEFAULTS = 4096  # entries of a default


def plan_from_json(text: str | bytes, where: str = "plan") -> Plan:
    """Read a plan; `where` names its file in messages.

    Raises `BundleError` with rule 1 (grammar) or 2 (version) and the place in the file.
    """
    root = load(text, where)
    version = _version(root)
    plan = root.fields(("keepstep", "name", "arena_bytes", "values", "stages", "calls", "steps"))
    return Plan(
        name=plan["name"].text(),
        values={name: _value(node, version) for name, node in plan["values"].items()},
        stages={name: _stage(node, version) for name, node in plan["stages"].items()},
        calls=tuple(_call(node) for node in plan["calls"].elements()),
        steps=tuple(_step(node, version) for node in plan["steps"].elements()),
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
    readable = " and ".join(map(str, READABLE_VERSIONS))
    if version > max(READABLE_VERSIONS):
        node.refuse(
            f"format version {version}, but this keepstep reads versions {readable}; "
            "update keepstep, or export the bundle again with this one",
            rule=2,
        )
    if version not in READABLE_VERSIONS:
        node.refuse(f"format version {version}, expected {readable}", rule=2)
    return version


def _value(node: Node, version: int) -> Value:
    # Which of the optional fields a kind has is rule 8, and the known kinds are rule 6.
    newer = () if version == 1 else ("default",)
    fields = node.fields(
        ("kind", "dtype", "shape"), ("offset", "file", "tensor", "feed", "range", *newer)
    )
    return Value(
        kind=cast(ValueKind, fields["kind"].text()),
        type=_tensor_type(fields),
        offset=fields["offset"].integer() if "offset" in fields else None,
        file=fields["file"].text() if "file" in fields else None,
        tensor=fields["tensor"].text() if "tensor" in fields else None,
        feed=fields["feed"].boolean() if "feed" in fields else False,
        range=_range(fields["range"]) if "range" in fields else None,
        default=_default(fields["default"]) if "default" in fields else None,
    )


def _range(node: Node) -> tuple[float, float]:
    bounds = [bound.number() for bound in node.elements()]
    if len(bounds) != 2:
        node.expected("[lowest, highest]")
    return bounds[0], bounds[1]


def _default(node: Node) -> Default:
    if not node.is_list:
        return _number_or_boolean(node)
    entries = list(node.elements())
    if not 1 <= len(entries) <= MOST_DEFAULTS:
        node.refuse(f"{len(entries)} entries, expected 1 to {MOST_DEFAULTS}")
    return tuple(map(_number_or_boolean, entries))


def _number_or_boolean(node: Node) -> float | bool:
    # Which of the two a dtype has is rule 8.
    return node.boolean() if node.is_boolean else node.number()


def _tensor_type(fields: Mapping[str, Node]) -> TensorType:
    shape = tuple(axis.integer() for axis in fields["shape"].elements())
    return TensorType(fields["dtype"].text(), shape)


def _stage(node: Node, version: int) -> Stage:
    newer = () if version == 1 else ("in_place",)
    fields = node.fields(("inputs", "outputs", "weights", "macs", "engines"), newer)
    in_place = fields["in_place"].items() if "in_place" in fields else ()

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
        in_place={output: input_.text() for output, input_ in in_place},
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


def _step(node: Node, version: int) -> Step:
    label = "kind" if version == 1 else "label"
    fields = node.fields((label, "timestep", "kept"))
    kept = fields["kept"]
    return Step(
        label=fields[label].text(),  # what it may say is rule 19
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
        fields["sha256"].refuse(f"expected 64 hex digits, found {quote(digest)}")
    return FileEntry(fields["bytes"].integer(), digest)
