"""Small hand-made bundles of the toy plan, in versions that differ in every file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from plans.toy import toy

from keepstep.exporter.store.bundle_writer import BundleContent, save_arrays
from keepstep.exporter.store.cache import Cache, Entry, cache_key
from keepstep.runtime import Bundle
from keepstep.runtime.format.plan_json import plan_from_json

STAGES = ("text", "full", "shallow", "final", "decode")


def key(version: int) -> str:
    """The key of a version's weights and engines."""
    return cache_key({"version": version})


def kernel(version: int) -> np.ndarray:
    """The one weight that the plan binds."""
    return np.full((4, 4), version, np.float32)


def kept(cache: Cache, version: int) -> Entry:
    """Put a version's weights and engines into a cache."""
    weights = {"unet.kernel": kernel(version), "more": np.full(50_000, version, np.float32)}
    engines = {f"stages/{name}-00.onnx": f"{name} {version}".encode() for name in STAGES}
    with cache.scratch() as work:
        save_arrays(work / "weights", weights)
        files: dict[str, bytes | Path] = {"weights.safetensors": work / "weights", **engines}
        return cache.put("toy", key(version), files, {"version": str(version)})


def content(entry: Entry) -> BundleContent:
    """A version's bundle."""
    version = int(entry.about["version"])
    times = np.full((2, 4), version, np.float32)
    return BundleContent(
        model={"version": str(version)},
        plans={"toy": plan_from_json(json.dumps(toy()))},
        constants={"toy": {"coef": np.ones((3, 3), np.float32), "times": times}},
        golden={"toy": {"inputs.noise": times}},
        files=entry.files,
        texts={"schedules/toy.yaml": b"x" * version},
        tokenizers={},
    )


def whole(out: Path) -> int:
    """The version of the bundle at `out`, every file of which is checked."""
    bundle = Bundle.open(out, verify_hashes=True)
    version = int(bundle.manifest.model["version"])
    bundle.plan("toy")
    assert (bundle.array("weights.safetensors", "unet.kernel") == kernel(version)).all()
    listed = {*bundle.manifest.files, "bundle.json"}
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == listed
    return version
