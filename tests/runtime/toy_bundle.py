"""A bundle of the toy plan with real engines, and the same run in numpy."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, shape_inference
from plans.make import text_of
from plans.toy import toy
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from keepstep.runtime.backends.onnx_model import HANDED_OVER

RNG = np.random.default_rng(7)
CONSTANTS = {
    "coef": RNG.normal(size=(3, 3)).astype(np.float32),
    "times": RNG.normal(size=(2, 4)).astype(np.float32),
}
KERNEL = RNG.normal(size=(4, 4)).astype(np.float32)
TOKENIZER = {"file": "tokenizer/tokenizer.json", "length": 4, "pad": 2}
WORDS = {"<start>": 0, "<end>": 1, "<pad>": 2, "<unknown>": 3, "a": 4, "red": 5, "apple": 6}

SAMPLER = [("Concat", ["noise", "history"], "all", {"axis": 0}), ("MatMul", ["coef", "all"], "x")]
NETWORK = [*SAMPLER, ("Add", ["x", "time"], "xt"), ("Add", ["xt", "context"], "xtc")]
NODES: dict[str, list[Any]] = {
    "text": [
        ("Cast", ["token_ids"], "ids", {"to": TensorProto.FLOAT}),
        ("Tanh", ["ids"], "embeds"),
    ],
    "full": [
        *NETWORK,
        ("MatMul", ["xtc", "kernel"], "h"),
        ("Tanh", ["h"], "prediction"),
        ("Concat", ["h", "x"], "features", {"axis": 1}),
    ],
    "shallow": [
        *NETWORK,
        ("Split", ["features"], ["deep", "rest"], {"axis": 1, "num_outputs": 2}),
        ("Add", ["xtc", "deep"], "sum"),
        ("Tanh", ["sum"], "prediction"),
    ],
    "final": [*SAMPLER, ("Identity", ["x"], "latents"), ("Mul", ["x", "x"], "norms")],
    "decode": [
        ("Abs", ["latents"], "positive"),
        ("Cast", ["positive"], "image", {"to": TensorProto.UINT8}),
    ],
}


def played(
    noise: np.ndarray, token_ids: np.ndarray | None = None, embeds: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """What the toy plan must give: the calls one by one, on lists of predictions."""
    context = np.tanh(token_ids.astype(np.float32)) if token_ids is not None else embeds
    zeros = np.zeros((1, 4), np.float32)
    newest_first: list[np.ndarray] = []

    def sample(k: int) -> np.ndarray:
        window = [*newest_first, zeros, zeros][:2]
        return CONSTANTS["coef"][k : k + 1] @ np.concatenate([noise, *window])

    h = (sample(0) + CONSTANTS["times"][:1] + context) @ KERNEL
    newest_first.insert(0, np.tanh(h))
    newest_first.insert(0, np.tanh(sample(1) + CONSTANTS["times"][1:] + context + h))
    latents = sample(2)
    return {"latents": latents, "image": np.abs(latents).astype(np.uint8)}


def inputs(seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs."""
    rng = np.random.default_rng(seed)
    return {
        "noise": rng.normal(size=(1, 4)).astype(np.float32),
        "token_ids": rng.integers(0, 7, (1, 4)),
    }


def write_bundle(folder: Path, plan: dict[str, Any] | None = None) -> Path:
    """Write the bundle of the toy plan, or of a plan with the toy's stages."""
    plan = toy() if plan is None else plan
    for name in ("plans", "stages", "golden", "tokenizer"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "plans" / f"{plan['name']}.json").write_bytes(text_of(plan))
    save_file(CONSTANTS, folder / "plans" / "toy.safetensors")
    save_file({"unet.kernel": KERNEL}, folder / "weights.safetensors")
    for name, stage in plan["stages"].items():
        if name in NODES:
            write_engine(folder / f"stages/{name}-00.onnx", stage, NODES[name])
    example = inputs()
    save_file({**example, **played(**example)}, folder / "golden" / "toy.safetensors")
    tokenizer().save(str(folder / "tokenizer" / "tokenizer.json"))
    seal(folder)
    return folder


def write_engine(path: Path, stage: dict[str, Any], nodes: list[Any]) -> None:
    """Write an ONNX file whose weights are in a file that does not exist."""
    onnx_types = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "uint8": 2}

    def tensors(key: str) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, onnx_types[type_["dtype"]], type_["shape"])
            for name, type_ in stage[key].items()
        ]

    weights = []
    for name in stage["weights"]:
        weight = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=KERNEL.shape)
        weight.data_location = TensorProto.EXTERNAL
        for key, value in (("location", HANDED_OVER), ("offset", 0), ("length", KERNEL.nbytes)):
            weight.external_data.add(key=key, value=str(value))
        weights.append(weight)
    graph = helper.make_graph(
        [
            helper.make_node(op, ins, outs if isinstance(outs, list) else [outs], **dict(*attrs))
            for op, ins, outs, *attrs in nodes
        ],
        path.stem,
        tensors("inputs"),
        tensors("outputs"),
        weights,
    )
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    path.write_bytes(shape_inference.infer_shapes(model).SerializeToString())


def tokenizer() -> Tokenizer:
    """Words, between marks for the beginning and the end, as CLIP's has them."""
    made = Tokenizer(WordLevel(WORDS, unk_token="<unknown>"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)]
    )
    return made


def seal(folder: Path, **changes: Any) -> None:
    """Write bundle.json for the files as they are; `changes` are put into it."""
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "bundle.json"
    }
    manifest = {
        "keepstep": 2,
        "producer": "tests",
        "model": {"name": "toy"},
        "plans": sorted(path.stem for path in (folder / "plans").glob("*.json")),
        "tokenizers": {"token_ids": TOKENIZER},
        "files": files,
    }
    (folder / "bundle.json").write_text(json.dumps({**manifest, **changes}))
