"""Models that are no code of the stage `full`, or more than that: what is wrong, and its words."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper
from stages.full import Change, declare, full, node

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
NO_FIELD = "which no engine of ours has"
NO_OPERATOR = "no engine has this operator"
RAW = "bytes of raw data"
TRILLION = 2**40

Bad = tuple[str, Change]


def _body() -> Any:
    """A graph within a graph."""
    value = [helper.make_tensor_value_info("b", TensorProto.BOOL, [])]
    return helper.make_graph([helper.make_node("Identity", ["c"], ["b"])], "body", value, value)


def _operator(operator: str, *inputs: str, words: str = NO_OPERATOR, **attributes: Any) -> Bad:
    return words, lambda model: node(model, operator, list(inputs), [1, 4], **attributes)


def _external(model: ModelProto, name: str, **entries: str) -> None:
    tensor = TensorProto(name=name, data_type=FLOAT, dims=[4, 4], data_location=1)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    model.graph.initializer.append(tensor)


def _attribute_in_a_file(model: ModelProto) -> None:
    tensor = TensorProto(data_type=FLOAT, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="weights-are-handed-over")
    node(model, "Constant", [], [1], value=tensor)


def _function(model: ModelProto) -> None:
    """Each calls the one before twice: 2^60 additions in some hundred bytes."""
    for i in range(60):
        name = f"f{i}"
        operator, domain = ("Add", "") if i == 0 else (f"f{i - 1}", "own")
        inputs = ["x", "x"] if i == 0 else ["x"]
        nodes = [helper.make_node(operator, inputs, ["y"], domain=domain)]
        if i > 0:
            nodes.append(helper.make_node(operator, ["y"], ["z"], domain=domain))
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
        output = "y" if i == 0 else "z"
        model.functions.append(helper.make_function("own", name, ["x"], [output], nodes, opsets))


def _sparse(model: ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [TRILLION]))


def _sequence(model: ModelProto) -> None:
    type_ = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, [1]))
    model.graph.value_info.append(helper.make_value_info("sequence", type_))


def _typed_data(model: ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("typed", FLOAT, [2], [1.0, 2.0]))


def _texts(model: ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("texts", STRING, [1], [b"a"]))


def _raw(data_type: int, dims: list[int], data: bytes) -> Change:
    tensor = TensorProto(name="raw", data_type=data_type, dims=dims, raw_data=data)
    return lambda model: model.graph.initializer.append(tensor)


def _weight(change: Any) -> Change:
    return lambda model: change(model.graph.initializer[0])


def _axis_without_size(model: ModelProto) -> None:
    model.graph.value_info[0].type.tensor_type.shape.dim[0].dim_param = "n"


def _no_shape(model: ModelProto) -> None:
    model.graph.value_info[0].type.tensor_type.ClearField("shape")


def _no_type(model: ModelProto) -> None:
    del model.graph.value_info[0]


def _twice(field: str) -> Change:
    def change(model: ModelProto) -> None:
        values = getattr(model.graph, field)
        values.append(values[0])

    return change


def _graph_attribute(model: ModelProto) -> None:
    """A branch within a branch within a branch."""
    body = _body()
    for _ in range(20):
        branch = helper.make_node("If", ["c"], ["b"], then_branch=body)
        body = helper.make_graph([branch], "body", [], body.output)
    model.graph.node.append(helper.make_node("If", ["c"], ["b"], then_branch=body))


def _reference(model: ModelProto) -> None:
    attribute = AttributeProto(name="axis", ref_attr_name="axis", type=AttributeProto.INT)
    model.graph.node[0].attribute.append(attribute)


GRAPHS: dict[str, Bad] = {
    "no-graph": ("no graph in it", lambda m: m.ClearField("graph")),
    # What computes without end, or more than it says.
    "loop-of-two-to-the-62": _operator("Loop", "", "", "x", words=NO_FIELD, body=_body()),
    "scan": _operator("Scan", "x", words=NO_FIELD, body=_body(), num_scan_inputs=1),
    "sequence-map": _operator("SequenceMap", "x", words=NO_FIELD, body=_body()),
    "deep-if": (NO_FIELD, _graph_attribute),
    "loop-without-a-body": _operator("Loop", "", "", "x"),
    "doubling-functions": (NO_FIELD, _function),
    "training": (NO_FIELD, lambda m: m.training_info.add(algorithm=full().graph)),
    "metadata": (NO_FIELD, lambda m: m.metadata_props.add(key="ort_config", value="{}")),
    "attribute-of-a-function": (NO_FIELD, _reference),
    # Operators.
    "engine-in-a-file": _operator(
        "EPContext", "x", domain="com.microsoft", embed_mode=0, ep_cache_context="../secret"
    ),
    "other-domain": _operator("MatMul", "x", "kernel", domain="own"),
    "random": _operator("RandomNormalLike", "x"),
    "unknown-operator": _operator("Frobnicate", "x"),
    "not-zeros": _operator("NonZero", "x"),
    "domain-imported": (
        "operators of 'own' are imported",
        lambda m: m.opset_import.append(helper.make_opsetid("own", 1)),
    ),
    "domain-imported-twice": (
        "are imported twice",
        lambda m: m.opset_import.append(helper.make_opsetid("", 21)),
    ),
    "domain-not-imported": _operator(
        "MultiHeadAttention",
        "x",
        "x",
        "x",
        words="the operators of its domain are not imported",
        domain="com.microsoft",
        num_heads=2,
    ),
    "old-opset": (
        "opset 19, expected 20 or later",
        lambda m: m.opset_import[0].ParseFromString(b"\x10\x13"),
    ),
    "no-opset": ("no opset is imported", lambda m: m.ClearField("opset_import")),
    # Files beside it, and weights.
    "weights-in-a-file": (
        "is in another file, 'secret'",
        lambda m: _external(m, "other", location="secret"),
    ),
    "weights-in-memory": (
        "is in another file, '*/_ORT_MEM_ADDR_/*'",
        lambda m: _external(m, "other", location="*/_ORT_MEM_ADDR_/*", offset="1", length="64"),
    ),
    "weights-with-two-places": (
        "a tensor in another file has its 'location'",
        lambda m: m.graph.initializer[0].external_data.add(key="location", value="secret"),
    ),
    "weights-prepacked": (
        "a tensor in another file has its 'prepacked_0'",
        lambda m: m.graph.initializer[0].external_data.add(key="prepacked_0", value="0"),
    ),
    "weights-without-a-place": ("is in another file, ''", lambda m: _external(m, "other")),
    "attribute-in-a-file": ("is float32[1] in another file", _attribute_in_a_file),
    "weight-that-the-plan-has-not": (
        "the plan's weights are 'kernel', the engine's 'kernel', 'other'",
        lambda m: _external(m, "other", location="weights-are-handed-over"),
    ),
    "weight-missing": (
        "the plan's weights are 'kernel', the engine's none",
        lambda m: m.graph.ClearField("initializer"),
    ),
    "weight-of-another-shape": (
        "weights.kernel: the plan has float32[4, 4], the engine float32[4, 5]",
        _weight(lambda w: w.dims.__setitem__(1, 5)),
    ),
    "weight-of-another-dtype": (
        "weights.kernel: the plan has float32[4, 4], the engine int32[4, 4]",
        _weight(lambda w: setattr(w, "data_type", TensorProto.INT32)),
    ),
    "weight-twice": ("the initializer 'kernel' comes twice", _twice("initializer")),
    "weight-with-numbers-and-a-file": (RAW, _weight(lambda w: setattr(w, "raw_data", bytes(64)))),
    "sparse": (NO_FIELD, _sparse),
    "texts": (NO_FIELD, _texts),
    "numbers-not-raw": (NO_FIELD, _typed_data),
    "numbers-missing": (RAW, _raw(FLOAT, [2], b"")),
    "numbers-too-few": (RAW, _raw(FLOAT, [2**39], bytes(8))),
    "element-of-no-plan": ("elements of type 8", _raw(STRING, [1], b"a")),
    "axis-below-zero": ("more than 2^40 elements", _raw(FLOAT, [-1], b"")),
    "axes-overflow": ("more than 2^40 elements", _raw(FLOAT, [2**32, 2**32], b"")),
    "axes-overflow-beside-a-zero": (
        "more than 2^40 elements",
        _raw(FLOAT, [2**32, 2**32, 0], b""),
    ),
    "seventeen-axes": ("17 axes, expected 16", _raw(FLOAT, [1] * 17, bytes(4))),
    # Types and names.
    "input-of-another-shape": (
        "inputs.noise: the plan has float32[1, 4], the engine float32[2, 4]",
        lambda m: m.graph.input[0].type.tensor_type.shape.dim[0].ParseFromString(b"\x08\x02"),
    ),
    "input-too-many": (
        "the plan's inputs are",
        lambda m: m.graph.input.append(full().graph.output[0]),
    ),
    "input-twice": ("the input 'noise' comes twice", _twice("input")),
    "output-missing": ("the plan's outputs are", lambda m: m.graph.output.pop()),
    "output-that-nothing-gives": (
        "the output 'features' is given by no node",
        lambda m: m.graph.node.pop(),
    ),
    "input-that-is-a-constant": (
        "the tensor 'noise' is given twice",
        lambda m: (
            _raw(FLOAT, [1], bytes(4))(m),
            setattr(m.graph.initializer[-1], "name", "noise"),
        ),
    ),
    "given-twice": ("is given before", _twice("node")),
    "type-twice": ("comes twice", _twice("value_info")),
    "no-type": ("has no declared type", _no_type),
    "no-shape": ("has no shape", _no_shape),
    "axis-without-a-size": (NO_FIELD, _axis_without_size),
    "axis-of-nothing": (
        "has no fixed size",
        lambda m: m.graph.value_info[0].type.tensor_type.shape.dim.add(),
    ),
    "constant-declared-otherwise": (
        "is declared as another one",
        lambda m: declare(m, "kernel", [2, 8]),
    ),
    "sequence": (NO_FIELD, _sequence),
    "circle": (
        "is given by nothing before it",
        lambda m: m.graph.node[0].input.append("prediction"),
    ),
    "name-that-is-no-text": (
        "has more than letters of ASCII",
        lambda m: setattr(m.graph.node[0], "name", "\u00e9"),
    ),
    "name-with-a-line-end": (
        "has more than letters of ASCII",
        lambda m: setattr(m.graph.node[0], "name", "a\nb"),
    ),
    "name-of-a-thousand-letters": (
        "a name of 1000 bytes",
        lambda m: setattr(m.graph.node[0], "name", "a" * 1000),
    ),
    "five-thousand-inputs": (
        "more than 4096 of input",
        lambda m: m.graph.node[0].input.extend(["x"] * 5000),
    ),
}
