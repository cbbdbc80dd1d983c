"""Engines that are right, though not all as plain as the toy's own."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, helper, numpy_helper
from stages.full import Change, declare, node, number


def _like_another_format(model: ModelProto) -> None:
    """Bytes 4 to 8 are the mark of ONNX Runtime's own format, which the file is not."""
    model.producer_name = "ORTM"


def _attention(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    shape = node(model, "Constant", [], [3], 7, value_ints=[1, 1, 4])
    tokens = node(model, "Reshape", ["x", shape], [1, 1, 4])
    inputs = [tokens, tokens, tokens]
    node(model, "MultiHeadAttention", inputs, [1, 1, 4], domain="com.microsoft", num_heads=2)


def _table_of_positions(model: ModelProto) -> None:
    """Computed at load, from weights and constants."""
    number(model, "rows", [0, 1])
    node(model, "Gather", ["kernel", "rows"], [2, 4])


def _empty_shape(model: ModelProto) -> None:
    number(model, "one", [1])
    number(model, "scalar", [])
    node(model, "Reshape", ["one", "scalar"], [], 7)


def _resized(model: ModelProto) -> None:
    number(model, "four", [1, 1, 1, 4])
    number(model, "eight", [1, 1, 2, 8])
    flat = node(model, "Reshape", ["x", "four"], [1, 1, 1, 4])
    node(model, "Resize", [flat, "", "", "eight"], [1, 1, 2, 8], mode="nearest")


def _large(model: ModelProto) -> None:
    """A gigabyte, which a stage of any size may have."""
    number(model, "wide", [2**14, 2**14])
    corner = np.zeros((1, 1), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(corner, "corner"))
    number(model, "first", [0])
    first = node(model, "Gather", ["x", "first"], [1, 1], axis=1)
    node(model, "Expand", [first, "wide"], [2**14, 2**14])


def _notes_on_weights(model: ModelProto) -> None:
    declare(model, "kernel", [4, 4])


VALID: dict[str, Change] = {
    "toy": lambda model: None,
    "like-another-format": _like_another_format,
    "attention": _attention,
    "table-of-positions": _table_of_positions,
    "empty-shape": _empty_shape,
    "resized": _resized,
    "a-gigabyte": _large,
    "weights-declared-twice": _notes_on_weights,
}
