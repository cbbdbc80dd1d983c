"""An ONNX file as data, as far as it is checked before ONNX Runtime reads it.

Messages and their numbers are those of onnx.proto. Whatever our exporter does not write is refused
where it is met: subgraphs, functions, sparse tensors, texts as data, types that are no tensors,
notes. So nothing here recurses, and a reader that merges or skips what is odd sees nothing odd.
Numbers are found and left where they are: an engine may hold 2 GiB of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from keepstep.runtime.backends.onnx_wire import Message, OnnxError
from keepstep.runtime.format.plan import TensorType
from keepstep.runtime.format.rules_values import type_text
from keepstep.runtime.quoting import quote

HANDED_OVER = "weights-are-handed-over"  # the "file" of weights that come with the session
MOST_NODES = 2**14  # SDXL's network has 3,811; loading takes the square of it
MOST_CODE = 2**24  # bytes of all but raw data; SDXL's network has a million
_LONGEST_NAME = 512  # of a node or tensor; those of plans end at 200
_MOST_PARTS = 4 * MOST_NODES  # of a graph: nodes, initializers and types
_MOST_AXES = 16  # within a network; plans know 8
_MOST_ELEMENTS = 2**40
_DTYPES = {  # onnx.TensorProto.DataType
    1: "float32",
    2: "uint8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    16: "bfloat16",
}
_ENTRIES = ("location", "offset", "length")  # of what is in another file
_EXTERNAL = 1  # onnx.TensorProto.DataLocation

_MODEL = Message(
    "ModelProto",
    varints={"ir_version": 1, "model_version": 5},
    spans={
        "producer_name": 2,
        "producer_version": 3,
        "domain": 4,
        "graph": 7,
        "opset_import*": 8,
    },
)
_OPSET = Message("OperatorSetIdProto", spans={"domain": 1}, varints={"version": 2})
_GRAPH = Message(
    "GraphProto",
    spans={
        "node*": 1,
        "name": 2,
        "initializer*": 5,
        "input*": 11,
        "output*": 12,
        "value_info*": 13,
    },
)
_NODE = Message(
    "NodeProto",
    spans={"input*": 1, "output*": 2, "name": 3, "op_type": 4, "attribute*": 5, "domain": 7},
)
_ATTRIBUTE = Message(
    "AttributeProto",
    spans={"name": 1, "s": 4, "t": 5},
    varints={"i": 3, "ints*": 8, "type": 20},
    fixed={"f": 2, "floats*": 7},
)
_TENSOR = Message(
    "TensorProto",
    varints={"dims*": 1, "data_type": 2, "data_location": 14},
    spans={"name": 8, "raw_data": 9, "external_data*": 13},
)
_ENTRY = Message("StringStringEntryProto", spans={"key": 1, "value": 2})
_VALUE = Message("ValueInfoProto", spans={"name": 1, "type": 2})
_TYPE = Message("TypeProto", spans={"tensor_type": 1})
_TENSOR_TYPE = Message("TypeProto.Tensor", varints={"elem_type": 1}, spans={"shape": 2})
_SHAPE = Message("TensorShapeProto", spans={"dim*": 1})
_AXIS = Message("TensorShapeProto.Dimension", varints={"dim_value": 1})

Span = tuple[int, int]


@dataclass(frozen=True)
class OnnxNode:
    """One operator; an empty name stands for an optional tensor that is left out."""

    name: str
    operator: str  # behind its domain where it is not ONNX's own
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class OnnxModel:
    """The graph of a stage: tensors by name, nodes in order."""

    opsets: dict[str, int] = field(default_factory=dict)
    nodes: list[OnnxNode] = field(default_factory=list)
    inputs: dict[str, TensorType] = field(default_factory=dict)
    outputs: dict[str, TensorType] = field(default_factory=dict)
    within: dict[str, TensorType] = field(default_factory=dict)  # tensors between nodes
    constants: dict[str, TensorType] = field(default_factory=dict)  # with their numbers
    handed_over: dict[str, TensorType] = field(default_factory=dict)  # weights without numbers


def read_onnx(data: bytes) -> OnnxModel:
    """The model in a file; raises `OnnxError`."""
    fields = _MODEL.read(data, (0, len(data)))
    if "graph" not in fields:
        raise OnnxError("no graph in it, so it is no ONNX model")
    reader = _Reader(data)
    reader.opsets(fields["opset_import"])
    reader.graph(fields["graph"])
    return reader.model


class _Reader:
    """Fills a model; what comes again and again in the same bytes is read once."""

    def __init__(self, data: bytes) -> None:
        self.model = OnnxModel()
        self._data = data
        self._code = len(data)  # bytes, less what is known to be raw data
        self._types: dict[bytes, TensorType] = {}
        self._attributes: set[bytes] = set()

    def opsets(self, spans: list[Span]) -> None:
        for span in spans:
            fields = _OPSET.read(self._data, span)
            domain = self._name(fields.get("domain", (0, 0)))
            if domain in self.model.opsets:
                raise OnnxError(f"the operators of {quote(domain)} are imported twice")
            self.model.opsets[domain] = fields.get("version", 0)

    def graph(self, span: Span) -> None:
        self._code -= sum(self._raw_bytes(span) for span in self._initializers(span))
        if self._code > MOST_CODE:
            raise OnnxError(f"{self._code} bytes of code, expected {MOST_CODE} at most")
        typed: Mapping[str, dict[str, TensorType]] = {
            "input": self.model.inputs,
            "output": self.model.outputs,
            "value_info": self.model.within,
        }
        for i, (name, part) in enumerate(_GRAPH.fields(self._data, *span)):
            if i == _MOST_PARTS:
                raise OnnxError(f"more than {_MOST_PARTS} nodes, initializers and types")
            if name == "node":
                if len(self.model.nodes) == MOST_NODES:
                    raise OnnxError(f"more than {MOST_NODES} nodes")
                self.model.nodes.append(self._node(part))
            elif name == "initializer":
                self._initializer(part)
            elif name in typed:
                self._typed(part, typed[name], name)

    def _initializers(self, graph: Span) -> list[Span]:
        fields = _GRAPH.fields(self._data, *graph)
        return [span for name, span in fields if name == "initializer"]

    def _raw_bytes(self, tensor: Span) -> int:
        fields = _TENSOR.fields(self._data, *tensor)
        return sum(span[1] - span[0] for name, span in fields if name == "raw_data")

    def _node(self, span: Span) -> OnnxNode:
        fields = _NODE.read(self._data, span)
        for part in fields["attribute"]:
            self._attribute(part)
        operator = self._name(fields.get("op_type", (0, 0)))
        domain = self._name(fields.get("domain", (0, 0)))
        return OnnxNode(
            self._name(fields.get("name", (0, 0))),
            f"{domain}.{operator}" if domain else operator,
            tuple([self._name(part) for part in fields["input"]]),
            tuple([self._name(part) for part in fields["output"]]),
        )

    def _attribute(self, span: Span) -> None:
        data = self._data[span[0] : span[1]]
        if data in self._attributes:
            return
        fields = _ATTRIBUTE.read(self._data, span)
        self._name(fields.get("name", (0, 0)))
        self._name(fields.get("s", (0, 0)))
        if "t" in fields:
            _, type_, location = self._tensor(fields["t"])
            if location is not None:
                raise OnnxError(f"an attribute is {type_text(type_)} in another file")
        self._attributes.add(data)

    def _initializer(self, span: Span) -> None:
        name, type_, location = self._tensor(span)
        if name in self.model.constants or name in self.model.handed_over:
            raise OnnxError(f"the initializer {quote(name)} comes twice")
        if location is None:
            self.model.constants[name] = type_
        elif location == HANDED_OVER:
            self.model.handed_over[name] = type_
        else:
            raise OnnxError(
                f"the initializer {quote(name)} is in another file, {quote(location)}, which is "
                "read by no engine of ours"
            )

    def _tensor(self, span: Span) -> tuple[str, TensorType, str | None]:
        """Its name, its type, and in which file its numbers are if not in this one."""
        fields = _TENSOR.read(self._data, span)
        name = self._name(fields.get("name", (0, 0)))
        type_ = _type(fields.get("data_type", 0), fields["dims"])
        entries: dict[str, str] = {}
        for key, value in map(self._entry, fields["external_data"]):
            if key not in _ENTRIES or key in entries:
                raise OnnxError(
                    f"a tensor in another file has its {quote(key)}, which no engine of ours has, "
                    "or twice"
                )
            entries[key] = value
        location = fields.get("data_location", 0)
        if location == _EXTERNAL and "raw_data" not in fields:
            return name, type_, entries.get("location", "")
        begin, end = fields.get("raw_data", (0, 0))
        if location or entries or end - begin != type_.bytes:
            raise OnnxError(
                f"the tensor {quote(name)} is {type_text(type_)}, {type_.bytes} bytes, and has "
                f"{end - begin} bytes of raw data"
            )
        return name, type_, None

    def _entry(self, span: Span) -> tuple[str, str]:
        fields = _ENTRY.read(self._data, span)
        return self._name(fields.get("key", (0, 0))), self._name(fields.get("value", (0, 0)))

    def _typed(self, span: Span, types: dict[str, TensorType], what: str) -> None:
        fields = _VALUE.read(self._data, span)
        name = self._name(fields.get("name", (0, 0)))
        if name in types:
            raise OnnxError(f"the {what} {quote(name)} comes twice")
        begin, end = fields.get("type", (0, 0))
        text = self._data[begin:end]
        if text not in self._types:
            self._types[text] = self._tensor_type(name, (begin, end))
        types[name] = self._types[text]

    def _tensor_type(self, name: str, span: Span) -> TensorType:
        tensor = _TYPE.read(self._data, span).get("tensor_type", (0, 0))
        fields = _TENSOR_TYPE.read(self._data, tensor)
        if "shape" not in fields:
            raise OnnxError(f"the tensor {quote(name)} has no shape")
        axes = [_AXIS.read(self._data, s) for s in _SHAPE.read(self._data, fields["shape"])["dim"]]
        if not all(axes):
            raise OnnxError(f"an axis of the tensor {quote(name)} has no fixed size")
        return _type(fields.get("elem_type", 0), [axis["dim_value"] for axis in axes])

    def _name(self, span: Span) -> str:
        raw = self._data[span[0] : span[1]]
        if len(raw) > _LONGEST_NAME:
            raise OnnxError(f"a name of {len(raw)} bytes, expected {_LONGEST_NAME} at most")
        text = raw.decode("latin-1")
        if not (text.isascii() and text.isprintable()):
            raise OnnxError(f"the name {quote(text)} has more than letters of ASCII")
        return text


def _type(element: int, axes: list[int]) -> TensorType:
    if element not in _DTYPES:
        raise OnnxError(f"a tensor has elements of type {element}, which plans do not know")
    if len(axes) > _MOST_AXES:
        raise OnnxError(f"a tensor has {len(axes)} axes, expected {_MOST_AXES} at most")
    if prod(axis for axis in axes if axis) > _MOST_ELEMENTS:
        raise OnnxError("a tensor has more than 2^40 elements")
    return TensorType(_DTYPES[element], tuple(axes))
