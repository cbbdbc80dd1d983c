"""A bundle of two plans that draw what they are told: sizes as colours, or the first picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, shape_inference
from runtime.toy_bundle import TOKENIZER, seal, tokenizer

from keepstep.runtime.format.plan import Binding, Call, Plan, Stage, TensorType, Value
from keepstep.runtime.format.plan_text import plan_to_json

BATCH, HEIGHT, WIDTH = 2, 4, 2
IMAGE = TensorType("uint8", (BATCH, HEIGHT, WIDTH, 3))
TIME_IDS = TensorType("float32", (BATCH, 6))
COMMON = {
    "noise": TensorType("float32", (BATCH, 1)),
    "guidance_scale": TensorType("float32", ()),
    "token_ids": TensorType("int64", (BATCH, 4)),
}
ELEMENT = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT, "int64": TensorProto.INT64}

# Plan → the inputs that it has besides the usual ones, and how it draws with them.
PLANS: dict[str, tuple[dict[str, TensorType], list[Any]]] = {
    "sizes": (
        {"time_ids": TIME_IDS, "negative_time_ids": TIME_IDS},
        [
            ("Mul", ["negative_time_ids", "ten"], "tens"),
            ("Add", ["time_ids", "tens"], "sum"),
            ("Reshape", ["sum", "row"], "one_row"),  # six numbers are two pixels
            ("Expand", ["one_row", "whole"], "rows"),
            ("Cast", ["rows"], "image"),
        ],
    ),
    "copy": ({"init_image": IMAGE}, [("Identity", ["init_image"], "image")]),
    "unguided": ({"init_image": IMAGE}, [("Identity", ["init_image"], "image")]),
    "defaults": ({"init_image": IMAGE}, [("Identity", ["init_image"], "image")]),
}
DEFAULTS = {"init_image": (10.0, 200.0, 30.0), "guidance_scale": 2.5}  # of the plan `defaults`


def write_conditioned_bundle(folder: Path) -> Path:
    """Write the bundle."""
    for name in ("plans", "stages", "tokenizer"):
        (folder / name).mkdir(parents=True)
    tokenizer().save(str(folder / "tokenizer/tokenizer.json"))
    for name, (own, nodes) in PLANS.items():
        inputs = {**COMMON, **own}
        if name == "unguided":
            del inputs["guidance_scale"]
        values = {n: Value("input", t, 256 * i) for i, (n, t) in enumerate(inputs.items())}
        if name == "defaults":
            values |= {n: replace(values[n], default=known) for n, known in DEFAULTS.items()}
        values["image"] = Value("output", IMAGE, 256 * len(inputs))
        plan = Plan(
            name=name,
            values=values,
            stages={
                "draw": Stage(inputs, {"image": IMAGE}, {"onnxruntime": f"stages/{name}.onnx"})
            },
            calls=(Call("draw", {n: Binding(n) for n in inputs}, {"image": Binding("image")}),),
            steps=(),
            arena_bytes=256 * len(values),
        )
        (folder / f"plans/{name}.json").write_text(plan_to_json(plan))
        (folder / f"stages/{name}.onnx").write_bytes(_engine(inputs, nodes))
    seal(folder, tokenizers={"token_ids": TOKENIZER})
    return folder


def _engine(inputs: dict[str, TensorType], nodes: list[Any]) -> bytes:
    def info(name: str, type_: TensorType) -> Any:
        return helper.make_tensor_value_info(name, ELEMENT[type_.dtype], type_.shape)

    attributes = {"Cast": {"to": TensorProto.UINT8}}
    graph = helper.make_graph(
        [helper.make_node(op, ins, [out], **attributes.get(op, {})) for op, ins, out in nodes],
        "draw",
        [info(name, type_) for name, type_ in inputs.items()],
        [info("image", IMAGE)],
        [
            numpy_helper.from_array(np.float32(10), "ten"),
            numpy_helper.from_array(np.array([BATCH, 1, WIDTH, 3]), "row"),
            numpy_helper.from_array(np.array(IMAGE.shape), "whole"),
        ],
    )
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    return shape_inference.infer_shapes(model).SerializeToString()
