"""What bundles hold, as text to compare with: code and words to the byte, numbers by their norms.

Sums of floats differ between processors in their last bits, so what is computed at export is held
by dtype, shape and norm. Weights are copied or rearranged, not computed.

`python tests/export/replay.py` writes the text anew, after a change that is meant to show in it.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from exports_for_tests import BUILT_IN, EMOJI
from models_for_tests import write_model

from keepstep.exporter import export
from keepstep.exporter.schedule.schema import Schedule, parse
from keepstep.runtime import Bundle

RECORDED = Path(__file__).parent / "replay.json"
NORM = 1e-4  # relative: far above rounding, far below any other number
DIGITS = 6  # of a norm that is written


def schedules() -> list[Schedule]:
    """All that a plan of a small model can have: caches, pruning, a start from an image."""
    lines = {
        "plain": ["sampler: {scheduler: EulerDiscreteScheduler, steps: 4}", "calls: FFFF"],
        "cached": [
            "sampler: {scheduler: PNDMScheduler, steps: 6}",
            "cache: {branch: 0}",
            "calls: FFsFs.s",
        ],
        "pruned": [
            "sampler: {scheduler: DDIMScheduler, steps: 7, clip_sample: false}",
            "cache: {branch: 0}",
            "prune: {ratio: 0.4, alpha: 0.5}",
            "calls: FFsF.ss",
        ],
        "from-image": [
            "guidance: none",
            "sampler: {scheduler: DPMSolverMultistepScheduler, steps: 4, strength: 0.5}",
            "calls: FF",
        ],
    }
    return [
        parse("\n".join(["keepstep: 1", f"name: {name}", *rest])) for name, rest in lines.items()
    ]


def small_bundle(folder: Path) -> Bundle:
    """A small model's, whose weights are not looked at: they are drawn anew on every machine."""
    model = write_model(folder / "model", levels=2)
    return export(model, schedules(), folder / "bundle", verify="none")


def content(bundle: Bundle, *, weights: bool) -> dict[str, object]:
    """File → its SHA-256, or what its tensors are."""
    found: dict[str, object] = {}
    for path in bundle.manifest.files:
        if path.startswith("golden/") or (path == "weights.safetensors" and not weights):
            continue
        if path.startswith("plans/") and path.endswith(".safetensors"):
            found[path] = _tensors(bundle, path)
        else:
            found[path] = hashlib.sha256(bundle.read(path)).hexdigest()
    return dict(sorted(found.items()))


def _tensors(bundle: Bundle, path: str) -> Mapping[str, object]:
    plan = bundle.plan(Path(path).stem)
    used = {v.tensor: v.type for v in plan.values.values() if v.file == path}
    return {
        str(tensor): [
            f"{type_.dtype} {type_.shape}",
            float(f"{np.linalg.norm(bundle.array(path, str(tensor)).astype(float)):.{DIGITS}g}"),
        ]
        for tensor, type_ in sorted(used.items(), key=lambda item: str(item[0]))
    }


def main() -> None:
    """Write what the bundles hold now."""
    with tempfile.TemporaryDirectory() as folder:
        small = content(small_bundle(Path(folder)), weights=False)
        emoji = content(
            export(EMOJI, BUILT_IN, Path(folder) / "emoji", verify="stages"), weights=True
        )
    RECORDED.write_text(json.dumps({"small": small, "emoji": emoji}, indent=1) + "\n")


if __name__ == "__main__":
    main()
