"""Draws a prompt with every plan of a bundle and writes PNG files.

Usage, after 01_export.py: python examples/02_play.py
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from PIL import Image

from keepstep.runtime import Bundle

BUNDLE, OUT = "engines/emoji", Path("out")
PROMPT, SEED = "a red apple", 0


def main() -> None:
    """Draw the same noise with each plan."""
    OUT.mkdir(exist_ok=True)
    bundle = Bundle.open(BUNDLE)
    for name in bundle.plans:
        with bundle.player(name) as player:
            shape = player.inputs["noise"].shape
            noise = np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)
            inputs = player.encode(PROMPT) | {"noise": noise, "guidance_scale": 5.0}
            player.run(inputs)  # the first run warms up
            start = time.perf_counter()
            image = player.run(inputs)["image"]  # uint8 (batch, height, width, 3)
            seconds = time.perf_counter() - start
        file = OUT / f"02_play-{name}.png"
        Image.fromarray(image[0]).save(file)
        print(f"{name}: {PROMPT!r} in {seconds:.2f} s, {file}")


if __name__ == "__main__":
    main()
