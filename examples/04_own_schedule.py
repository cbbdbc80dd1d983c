"""Writes a schedule of one's own, exports it beside `full`, and compares the two.

Usage, from the repository's folder: python examples/04_own_schedule.py
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from keepstep.exporter import Schedule, export
from keepstep.runtime import Bundle

MODEL, BUNDLE, OUT = "models/emoji", "engines/own-schedule", Path("out")
# 20 steps of DDIM are 20 calls. The picture's layout is made early, so begin with full calls (F);
# then shallow ones (s) take over, and near the end some are skipped (.).
SCHEDULE = """\
keepstep: 1
name: mine
sampler: {scheduler: DDIMScheduler, steps: 20, clip_sample: false}
cache: {branch: 0}                              # what shallow calls take from the last full one
prune: {method: dato, ratio: 0.4, patch: 2}     # 40 % of the tokens are left out
calls: "FFF FsFs FssFss F.sF.sF"
"""
PLAIN = """\
keepstep: 1
name: full
sampler: {scheduler: DDIMScheduler, steps: 20, clip_sample: false}
calls: {repeat: "F"}
"""


def draw(bundle: Bundle, name: str) -> tuple[np.ndarray, float]:
    """A picture, uint8 (height, width, 3), and the seconds of its run."""
    with bundle.player(name) as player:
        shape = player.inputs["noise"].shape
        noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        inputs = player.encode("a red apple") | {"noise": noise, "guidance_scale": 5.0}
        player.run(inputs)  # the first run warms up
        start = time.perf_counter()
        image = player.run(inputs)["image"][0]
        return image, time.perf_counter() - start


def main() -> None:
    """Write, check, export, compare."""
    OUT.mkdir(exist_ok=True)
    files = [OUT / "full.yaml", OUT / "mine.yaml"]
    for file, text in zip(files, (PLAIN, SCHEDULE), strict=True):
        file.write_text(text, encoding="utf-8")
    schedules = [Schedule.load(file) for file in files]  # refuses mistakes with their place
    bundle = export(model=MODEL, schedules=schedules, out=BUNDLE)
    plain, plain_seconds = draw(bundle, "full")
    mine, seconds = draw(bundle, "mine")
    error = np.mean((plain.astype(float) - mine) ** 2)
    likeness = 10 * np.log10(255**2 / max(error, 1e-9))
    kinds = [step.label for step in bundle.plan("mine").steps]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("full", "shallow", "skip"))
    print(f"mine: {counts}")
    print(f"{plain_seconds:.3f} s full, {seconds:.3f} s mine, {likeness:.1f} dB alike")


if __name__ == "__main__":
    main()
