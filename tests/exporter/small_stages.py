"""Small hand-made ONNX stages for the tests of builders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from keepstep.exporter.engines import BuildOptions, OnnxStage
from keepstep.runtime.format.plan import TensorType

RTX = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="TensorRT-RTX is not installed: pip install 'keepstep[tensorrt-rtx]'",
)
SHARED, EMBEDDED = BuildOptions(), BuildOptions(weights="embedded")
ONNX_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}
Types = dict[str, TensorType]


def f32(*shape: int) -> TensorType:
    return TensorType("float32", shape)


def stage(
    nodes: Sequence[NodeProto],
    inputs: Types,
    outputs: Types,
    weights: Types | None = None,
    constants: dict[str, np.ndarray] | None = None,
) -> OnnxStage:
    weights = weights or {}
    graph = helper.make_graph(
        nodes,
        "stage",
        [_value(name, t) for name, t in {**inputs, **weights}.items()],
        [_value(name, t) for name, t in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return OnnxStage("mine", model.SerializeToString(), inputs, outputs, weights, macs=0)


def _value(name: str, tensor: TensorType) -> Any:
    return helper.make_tensor_value_info(name, ONNX_TYPES[tensor.dtype], tensor.shape)


def layer(dtype: str = "float32", features: int = 8) -> OnnxStage:
    """x @ w, computed in float32 whatever the weight's type is."""
    return stage(
        [
            helper.make_node("Cast", ["w"], ["w32"], name="Cast_0", to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["x", "w32"], ["y"], name="MatMul_1"),
        ],
        inputs={"x": f32(2, features)},
        outputs={"y": f32(2, features)},
        weights={"w": TensorType(dtype, (features, features))},
    )


def relu(inputs: Types | None = None, outputs: Types | None = None) -> OnnxStage:
    """A stage of one node; `inputs` and `outputs` are what it claims to have."""
    node = helper.make_node("Relu", ["x"], ["y"], name="Relu_0")
    sound = stage([node], {"x": f32(4)}, {"y": f32(4)})
    return replace(sound, inputs=inputs or sound.inputs, outputs=outputs or sound.outputs)


def top_k(k: int) -> OnnxStage:
    return stage(
        [helper.make_node("TopK", ["x", "k"], ["v", "y"], name="TopK_0")],
        inputs={"x": f32(1, 5000)},
        outputs={"y": TensorType("int64", (1, k))},
        constants={"k": np.array([k])},
    )


def numbers(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
