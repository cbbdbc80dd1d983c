"""Every dtype on its way through a player: as input, constant row, weight and output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from runtime.safetensors_by_hand import write_safetensors
from runtime.toy_bundle import seal

from keepstep.runtime import Bundle
from keepstep.runtime.backends.onnx_model import HANDED_OVER
from keepstep.runtime.folder.tensors import numpy_dtype
from keepstep.runtime.format.plan import (
    ITEM_BYTES,
    Binding,
    Call,
    Plan,
    Stage,
    TensorType,
    Value,
)
from keepstep.runtime.format.plan_text import plan_to_json

ONNX_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}
SAFETENSORS_TYPES = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
    "bool": "BOOL",
}


def copy_bundle(folder: Path, dtype: str, table: np.ndarray) -> Path:
    """One stage that copies an input, a row of a constant, and a weight."""
    one, rows = TensorType(dtype, (1, 3)), TensorType(dtype, (2, 3))
    scalar = TensorType(dtype, ())
    constant = Value("constant", rows, file="plans/copy.safetensors", tensor="table")
    plan = Plan(
        name="copy",
        values={
            "x": Value("input", scalar, 0),
            "table": constant,
            "x_copy": Value("output", scalar, 256),
            "row_copy": Value("output", one, 512),
            "weight_copy": Value("output", rows, 768),
        },
        stages={
            "copy": Stage(
                {"x": scalar, "row": one},
                {"x_copy": scalar, "row_copy": one, "weight_copy": rows},
                {"onnxruntime": "copy.onnx"},
                {"weight": "table"},
            )
        },
        calls=(
            Call(
                "copy",
                {"x": Binding("x"), "row": Binding("table", 1)},
                {name: Binding(name) for name in ("x_copy", "row_copy", "weight_copy")},
            ),
        ),
        steps=(),
        arena_bytes=1024,
    )
    (folder / "plans").mkdir()
    (folder / "plans/copy.json").write_text(plan_to_json(plan))
    write_safetensors(
        folder / "plans/copy.safetensors",
        {"table": (SAFETENSORS_TYPES[dtype], [2, 3], table.tobytes())},
    )
    onnx_type = ONNX_TYPES[dtype]
    weight = TensorProto(name="weight", data_type=onnx_type, dims=[2, 3])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", HANDED_OVER), ("offset", 0), ("length", table.nbytes)):
        weight.external_data.add(key=key, value=str(value))
    shapes = {"x": [], "row": [1, 3], "x_copy": [], "row_copy": [1, 3], "weight_copy": [2, 3]}
    infos = {n: helper.make_tensor_value_info(n, onnx_type, s) for n, s in shapes.items()}
    graph = helper.make_graph(
        [helper.make_node("Identity", [n], [f"{n}_copy"]) for n in ("x", "row", "weight")],
        "copy",
        [infos["x"], infos["row"]],
        [infos["x_copy"], infos["row_copy"], infos["weight_copy"]],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (folder / "copy.onnx").write_bytes(model.SerializeToString())
    seal(folder, tokenizers={})
    return folder


@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_every_dtype_comes_through(tmp_path: Path, dtype: str) -> None:
    table = (np.arange(6).reshape(2, 3) % (2 if dtype == "bool" else 7)).astype(numpy_dtype(dtype))
    with Bundle.open(copy_bundle(tmp_path, dtype, table)).player("copy", threads=1) as player:
        x = np.array(1, numpy_dtype(dtype))
        found = player.run({"x": x})
    assert {array.dtype for array in found.values()} == {numpy_dtype(dtype)}
    assert found["x_copy"] == x
    assert np.array_equal(found["row_copy"], table[1:])
    assert np.array_equal(found["weight_copy"], table)
