"""Models that ask for more than a stage can justify, at load or when they are played."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper
from stages.full import Change, node, number

INT64 = TensorProto.INT64
NO_CONSTANT = "is no constant of the file"
PROPORTION = "out of proportion"
FOLDED = "out of all proportion"
TRILLION = 2**40

Bad = tuple[str, Change]


def _doubling(model: ModelProto) -> None:
    """Thirty times a tensor and itself, side by side."""
    last = "x"
    for i in range(30):
        last = node(model, "Concat", [last, last], [1, 4 * 2 ** (i + 1)], axis=1)


def _shaped(operator: str, shape: list[int], *inputs: str, **more: Any) -> Bad:
    """An operator that is told a size of 2^40 elements."""
    words = more.pop("words", PROPORTION)

    def change(model: ModelProto) -> None:
        number(model, "size", [TRILLION])
        number(model, "sizes", [2**20, 2**20])
        number(model, "pads", [0, 0, 0, TRILLION - 4])
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
        model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
        model.graph.initializer.append(numpy_helper.from_array(np.float32(TRILLION), "end"))
        node(model, operator, list(inputs), shape, **more)

    return words, change


def _told_by_an_input(operator: str, *inputs: str) -> Bad:
    """Of a size that is computed when it is played, so that nobody infers it before."""

    def change(model: ModelProto) -> None:
        node(model, "Cast", ["x"], [1, 4], INT64, to=INT64)
        name = model.graph.node[-1].output[0]
        node(model, operator, [name if i == "told" else i for i in inputs], [1, 4])

    return NO_CONSTANT, change


def _folded(model: ModelProto) -> None:
    """A hundred tensors of a million elements, each from a constant: all are made at load."""
    number(model, "size", [2**20])
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "zero"))
    for _ in range(100):
        node(model, "Expand", ["zero", "size"], [2**20])


def _folded_from_a_shape(model: ModelProto) -> None:
    number(model, "sizes", [2**14, 2**13])
    shape = node(model, "Shape", ["x"], [2], INT64)
    node(model, "Reshape", [shape, "pair"], [2, 1], INT64)
    number(model, "pair", [2, 1])
    shape = node(model, "ReduceMax", [model.graph.node[-1].output[0]], [1, 1], INT64)
    node(model, "Expand", [shape, "sizes"], [2**14, 2**13], INT64)


def _multiplied(model: ModelProto) -> None:
    """Few elements, and 2^36 multiplications."""
    number(model, "tall", [2**12, 2**12])
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1), np.float32), "zero"))
    matrix = node(model, "Expand", ["zero", "tall"], [2**12, 2**12])
    node(model, "MatMul", [matrix, matrix], [2**12, 2**12])


def _convolved(model: ModelProto) -> None:
    number(model, "square", [1, 1, 2**10, 2**10])
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "zero"))
    square = node(model, "Expand", ["zero", "square"], [1, 1, 2**10, 2**10])
    pads = [2**9, 2**9, 2**9 - 1, 2**9 - 1]
    node(model, "Conv", [square, square], [1, 1, 2**10, 2**10], pads=pads)


SIZES: dict[str, Bad] = {
    # Sizes.
    "expand": _shaped("Expand", [2**20, 2**20], "x", "sizes"),
    "constant-of-shape": _shaped("ConstantOfShape", [TRILLION], "size"),
    "tile": _shaped("Tile", [2**20, 2**20], "x", "sizes"),
    "range": _shaped("Range", [TRILLION], "zero", "end", "one"),
    "resize": _shaped("Resize", [2**20, 2**20], "x", "", "", "sizes"),
    "pad": _shaped("Pad", [1, TRILLION], "x", "pads"),
    "more-than-a-trillion": _shaped(
        "Tile", [TRILLION, 4], "x", "sizes", words="more than 2^40 elements"
    ),
    "doubling": (PROPORTION, _doubling),
    "expand-told-by-an-input": _told_by_an_input("Expand", "x", "told"),
    "reshape-told-by-an-input": _told_by_an_input("Reshape", "x", "told"),
    "constant-of-shape-told-by-an-input": _told_by_an_input("ConstantOfShape", "told"),
    "tile-told-by-a-weight": (
        NO_CONSTANT,
        lambda m: node(m, "Tile", ["x", "kernel"], [1, 4]),
    ),
    # What is computed when it is loaded.
    "folded": (FOLDED, _folded),
    "folded-from-a-shape": (FOLDED, _folded_from_a_shape),
    "multiplied": (FOLDED, _multiplied),
    "convolved": (FOLDED, _convolved),
}
