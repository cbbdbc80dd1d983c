"""A bundle whose stage `update` changes a state in place, call after call; the same run in numpy.

`start` becomes the state `kv`. Three calls scatter two rows each into it, and give the products of
its rows with `query`. `start` and `query` have defaults.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import numpy_helper
from plans.make import text_of
from plans.toy import Json, stage, tensor
from runtime.toy_bundle import seal, write_engine
from safetensors.numpy import save_file

CALLS, ROWS, PLACES, WIDTH = 3, 2, 6, 4
INDEX = np.array([[5, 0], [2, 5], [1, 4]], np.int64).reshape(CALLS, ROWS, 1)
START = [0.1, -1.5, 0.0, 3.0]  # every row of the default
QUERY = 0.5

AXIS = numpy_helper.from_array(np.zeros(1, np.int64))
NODES: dict[str, list[Any]] = {
    "begin": [("Identity", ["start"], "kv")],
    "update": [
        ("Constant", [], "first", {"value": AXIS}),
        ("Squeeze", ["rows", "first"], "new"),
        ("Squeeze", ["index", "first"], "places"),
        ("ScatterND", ["kv", "places", "new"], "kv_new"),
        ("MatMul", ["kv_new", "query"], "products"),
        ("Transpose", ["products"], "seen", {"perm": [1, 0]}),
    ],
    "end": [("Identity", ["kv"], "cache")],
}


def plan() -> Json:
    """The plan as JSON data."""
    cache, query = tensor("float32", PLACES, WIDTH), tensor("float32", WIDTH, 1)
    rows, index = tensor("float32", 1, ROWS, WIDTH), tensor("int64", 1, ROWS, 1)
    seen = tensor("float32", 1, PLACES)
    update = stage(
        "update",
        {"kv": cache, "rows": rows, "index": index, "query": query},
        {"kv_new": cache, "seen": seen},
    )
    update["in_place"] = {"kv_new": "kv"}
    updates = [
        {
            "stage": "update",
            "step": k // 2,
            "reads": {"kv": "kv", "rows": ["rows", k], "index": ["index", k], "query": "query"},
            "writes": {"kv_new": "kv", "seen": ["seen", k]},
        }
        for k in range(CALLS)
    ]
    all_rows, all_seen = tensor("float32", CALLS, ROWS, WIDTH), tensor("float32", CALLS, PLACES)
    return {
        "keepstep": 2,
        "name": "cache",
        "arena_bytes": 6 * 256,
        "values": {
            "start": {"kind": "input", **cache, "offset": 0, "default": START},
            "rows": {"kind": "input", **all_rows, "offset": 256},
            "query": {"kind": "input", **query, "offset": 512, "default": QUERY, "range": [-1, 1]},
            "kv": {"kind": "state", **cache, "offset": 768},
            "seen": {"kind": "output", **all_seen, "offset": 1024},
            "cache": {"kind": "output", **cache, "offset": 1280},
            "index": {
                "kind": "constant",
                **tensor("int64", *INDEX.shape),
                "file": "plans/cache.safetensors",
                "tensor": "index",
            },
        },
        "stages": {
            "begin": stage("begin", {"start": cache}, {"kv": cache}),
            "update": update,
            "end": stage("end", {"kv": cache}, {"cache": cache}),
        },
        "calls": [
            {"stage": "begin", "reads": {"start": "start"}, "writes": {"kv": "kv"}},
            *updates,
            {"stage": "end", "reads": {"kv": "kv"}, "writes": {"cache": "cache"}},
        ],
        "steps": [
            {"label": "two updates", "timestep": 2, "kept": None},
            {"label": "one update", "timestep": 1, "kept": None},
            {"label": "no update", "timestep": 0, "kept": None},
        ],
    }


def played(
    rows: np.ndarray, start: np.ndarray | None = None, query: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """What the plan must give."""
    kv = np.tile(np.array(START, np.float32), (PLACES, 1)) if start is None else start.copy()
    query = np.full((WIDTH, 1), QUERY, np.float32) if query is None else query
    seen = []
    for k in range(CALLS):
        kv[INDEX[k, :, 0]] = rows[k]
        seen.append((kv @ query)[:, 0])
    return {"seen": np.stack(seen), "cache": kv}


def rows(seed: int = 0) -> np.ndarray:
    """The one input that must be given."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(CALLS, ROWS, WIDTH)).astype(np.float32)


def write_cache_bundle(folder: Path) -> Path:
    """Write the bundle, with a run that takes the defaults as golden values."""
    data = plan()
    for name in ("plans", "stages", "golden"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "plans/cache.json").write_bytes(text_of(data))
    save_file({"index": INDEX}, folder / "plans/cache.safetensors")
    for name, nodes in NODES.items():
        write_engine(folder / f"stages/{name}-00.onnx", data["stages"][name], nodes)
    outputs = {f"outputs.{name}": array for name, array in played(rows()).items()}
    save_file({"inputs.rows": rows(), **outputs}, folder / "golden/cache.safetensors")
    seal(folder, tokenizers={})
    return folder
