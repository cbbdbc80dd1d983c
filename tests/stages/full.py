"""The engine of the toy plan's stage `full`, of which every file of the corpus is a change."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, helper
from plans.toy import toy
from runtime.toy_bundle import NODES, write_engine

Change = Callable[[ModelProto], object]


def full() -> ModelProto:
    """As the toy bundle has it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "full-00.onnx"
        write_engine(path, toy()["stages"]["full"], NODES["full"])
        return onnx.load(path, load_external_data=False)


def bytes_of(change: Change) -> bytes:
    """The file after one change of the model."""
    model = full()
    change(model)
    return model.SerializeToString(deterministic=True)


def number(model: ModelProto, name: str, values: list[int], dtype: int = TensorProto.INT64) -> None:
    """One more initializer, of raw data."""
    array = onnx.numpy_helper.from_array(
        onnx.numpy_helper.to_array(helper.make_tensor(name, dtype, [len(values)], values)), name
    )
    model.graph.initializer.append(array)


def declare(model: ModelProto, name: str, shape: list[int], dtype: int = TensorProto.FLOAT) -> None:
    """The type of what a node gives."""
    model.graph.value_info.append(helper.make_tensor_value_info(name, dtype, shape))


def node(
    model: ModelProto,
    operator: str,
    inputs: list[str],
    shape: list[int],
    dtype: int = TensorProto.FLOAT,
    **attributes: object,
) -> str:
    """One more node and the type of its only output, whose name is given."""
    name = f"made_{len(model.graph.node)}"
    model.graph.node.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
    declare(model, name, shape, dtype)
    return name
