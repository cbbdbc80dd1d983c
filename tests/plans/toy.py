"""The toy plan that the corpus is made from: text, a full call, a skip, a shallow call, decode."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def tensor(dtype: str, *shape: int) -> Json:
    """A tensor of a stage."""
    return {"dtype": dtype, "shape": list(shape)}


def toy() -> Json:
    """A fresh copy, as JSON data.

    Two predictions are kept in `history`, which grows downwards: a window of two rows begins with
    the newest. `features` is written by the full call and reused by the shallow one; afterwards
    `norms`, which nobody reads, takes its memory.
    """
    row = tensor("float32", 1, 4)
    sampler = {"noise": row, "history": tensor("float32", 2, 4), "coef": tensor("float32", 1, 3)}
    network = {**sampler, "time": row, "context": row}
    features = tensor("float32", 1, 8)
    return {
        "keepstep": 2,
        "name": "toy",
        "arena_bytes": 1792,
        "values": {
            "token_ids": {"kind": "input", **tensor("int64", 1, 4), "offset": 0},
            "noise": {"kind": "input", **row, "offset": 256},
            "prompt_embeds": {"kind": "scratch", **row, "offset": 512, "feed": True},
            "history": {"kind": "state", **tensor("float32", 4, 4), "offset": 768},
            "features": {"kind": "scratch", **features, "offset": 1024},
            "norms": {"kind": "scratch", **row, "offset": 1024},
            "latents": {"kind": "output", **row, "offset": 1280},
            "image": {"kind": "output", **tensor("uint8", 1, 4), "offset": 1536},
            "coef": constant("plans/toy.safetensors", "coef", 3, 3),
            "times": constant("plans/toy.safetensors", "times", 2, 4),
            "kernel": constant("weights.safetensors", "unet.kernel", 4, 4),
        },
        "stages": {
            "text": stage("text", {"token_ids": tensor("int64", 1, 4)}, {"embeds": row}),
            "full": stage(
                "full", network, {"prediction": row, "features": features}, {"kernel": "kernel"}
            ),
            "shallow": stage("shallow", {**network, "features": features}, {"prediction": row}),
            "final": stage("final", sampler, {"latents": row, "norms": row}),
            "decode": stage("decode", {"latents": row}, {"image": tensor("uint8", 1, 4)}),
        },
        "calls": [
            {
                "stage": "text",
                "reads": {"token_ids": "token_ids"},
                "writes": {"embeds": "prompt_embeds"},
            },
            {
                "stage": "full",
                "step": 0,
                "reads": {**sampler_reads(0), "time": ["times", 0], "context": "prompt_embeds"},
                "writes": {"prediction": ["history", 1], "features": "features"},
            },
            {
                "stage": "shallow",
                "step": 2,
                "reads": {
                    **sampler_reads(1),
                    "time": ["times", 1],
                    "context": "prompt_embeds",
                    "features": "features",
                },
                "writes": {"prediction": ["history", 0]},
            },
            {
                "stage": "final",
                "reads": sampler_reads(2),
                "writes": {"latents": "latents", "norms": "norms"},
            },
            {"stage": "decode", "reads": {"latents": "latents"}, "writes": {"image": "image"}},
        ],
        "steps": [
            {"label": "full", "timestep": 999.0, "kept": 12},
            {"label": "skip", "timestep": 666.0, "kept": None},
            {"label": "shallow", "timestep": 333, "kept": None},
        ],
    }


def as_format_1(plan: Json) -> None:
    """Write a plan that says nothing newer as format 1 does: labels are kinds there."""
    plan["keepstep"] = 1
    plan["steps"] = [
        {"kind" if key == "label" else key: part for key, part in step.items()}
        for step in plan["steps"]
    ]


def constant(file: str, name: str, *shape: int) -> Json:
    """A constant of float32."""
    return {"kind": "constant", **tensor("float32", *shape), "file": file, "tensor": name}


def stage(name: str, inputs: Json, outputs: Json, weights: Json | None = None) -> Json:
    """A stage with one engine."""
    return {
        "macs": 16,
        "engines": {"onnxruntime": f"stages/{name}-00.onnx"},
        "inputs": inputs,
        "outputs": outputs,
        "weights": weights or {},
    }


def sampler_reads(predictions: int) -> Json:
    """What the sampler's part of a stage reads when this many of two predictions are made."""
    return {
        "noise": "noise",
        "history": ["history", 2 - predictions],
        "coef": ["coef", predictions],
    }
