"""A bundle that is all weights, in every layout and dtype that exporters write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from runtime.safetensors_by_hand import write_safetensors
from runtime.toy_bundle import seal

from keepstep.runtime.format.plan import Binding, Call, Plan, Stage, Step, TensorType, Value
from keepstep.runtime.format.plan_text import plan_to_json

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
SAFETENSORS_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}

BLOCK = "unet.down_blocks.0.attentions.0"
ATTENTION = f"{BLOCK}.transformer_blocks.0.attn1"
TEXT = "text_encoder.encoder.layers.0.self_attn.q_proj"
RNG = np.random.default_rng(11)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, dtype=np.float32)


TO_Q, TO_K, TO_V, CONV, PROJ, Q_PROJ = (
    random(*shape) for shape in [(6, 4)] * 3 + [(6, 4, 3, 3), (6, 4, 1, 1), (6, 4)]
)
# The bundle's tensors: one weight of the checkpoint may be there in several layouts and dtypes.
WEIGHTS: dict[str, np.ndarray] = {
    f"{ATTENTION}.to_q.weight": TO_Q,
    f"{ATTENTION}.to_q.weight:transpose-1-0": TO_Q.T,
    f"{ATTENTION}.to_q.bias": random(6),
    f"{ATTENTION}.to_k.weight:float16": TO_K.astype(np.float16),
    f"{ATTENTION}.to_v.weight:transpose-1-0:bfloat16": TO_V.T.astype(BFLOAT16),
    f"{ATTENTION}.to_out.0.weight:unsqueeze-0-1": random(1, 1, 6, 6),
    f"{BLOCK}.proj_in.weight": PROJ,
    f"{BLOCK}.proj_in.weight:reshape-6-4": PROJ.reshape(6, 4),
    "unet.down_blocks.0.resnets.0.conv1.weight": CONV,
    "unet.conv_norm_out.weight:unsqueeze-1-2": random(6, 1, 1),
    f"{TEXT}.weight:transpose-1-0": Q_PROJ.T,
    "text_encoder.final_layer_norm.weight": random(6),
    "text_encoder_2.encoder.layers.0.mlp.fc1.weight": random(6, 4),
}


DOWN, UP = random(2, 4), random(6, 2)
TO_Q_A, TO_Q_B = f"{ATTENTION}.to_q.lora_A.weight", f"{ATTENTION}.to_q.lora_B.weight"
PAIR = {TO_Q_A: DOWN, TO_Q_B: UP}


def pair(module: str, down: Any = DOWN, up: Any = UP) -> dict[str, Any]:
    """Factors of one module, as PEFT names them."""
    return {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}


def write_lora_bundle(
    folder: Path, weights: Mapping[str, np.ndarray] = WEIGHTS, *, embedded: bool = False
) -> Path:
    """Write a bundle whose one stage takes these weights, or has them in its engine."""
    (folder / "plans").mkdir(parents=True)
    (folder / "full.onnx").write_bytes(b"")
    scalar = TensorType("float32", ())
    values = {"x": Value("input", scalar, 0), "y": Value("output", scalar, 256)}
    for name, array in weights.items():
        type_ = TensorType(str(array.dtype), array.shape)
        values[name] = Value("constant", type_, file="weights.safetensors", tensor=name)
    taken = {} if embedded else {name: name for name in weights}
    plan = Plan(
        name="full",
        values=values,
        stages={"full": Stage({"x": scalar}, {"y": scalar}, {"null": "full.onnx"}, taken)},
        calls=(Call("full", {"x": Binding("x")}, {"y": Binding("y")}, step=0),),
        steps=(Step("full", 999.0),),
        arena_bytes=512,
    )
    (folder / "plans/full.json").write_text(plan_to_json(plan))
    write_tensors(folder / "weights.safetensors", weights)
    seal(folder, tokenizers={})
    return folder


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> Path:
    """Write arrays of any dtype that a LoRA or a bundle may have."""
    return write_safetensors(
        path,
        {
            name: (
                SAFETENSORS_TYPES[str(a.dtype)],
                list(a.shape),
                np.ascontiguousarray(a).tobytes(),
            )
            for name, a in tensors.items()
        },
    )
