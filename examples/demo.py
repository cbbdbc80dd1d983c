"""Draws "a red apple" twice, with every call full and with the DaTo schedule, and compares.

The first time it exports `models/emoji` into `engines/emoji`. Playing needs no PyTorch.
Usage: python examples/demo.py [PROMPT]
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from keepstep.runtime import Bundle, KeepstepError, Plan

ROOT = Path(__file__).resolve().parents[1]
MODEL, BUNDLE, OUT = ROOT / "models/emoji", ROOT / "engines/emoji", ROOT / "out"
PLANS = ("full", "dato-coco")
COLOURS = {"full": "#1f5fbf", "shallow": "#7fc4e8", "skip": "#e4e4e4"}
SEED, GUIDANCE_SCALE, REPEATS = 0, 5.0, 3


@dataclass(frozen=True)
class Drawing:
    """A picture, and the seconds that it took."""

    plan: Plan
    image: np.ndarray  # uint8 (H, W, 3)
    seconds: float  # the fastest of the repeats


def bundle() -> Bundle:
    """The exported model; exported now if it is not there or cannot be read."""
    try:
        opened = Bundle.open(BUNDLE)
        if set(PLANS) <= set(opened.plans):
            return opened
    except KeepstepError:
        pass
    schedules = [word for plan in (*PLANS, "deepcache-n3") for word in ("-s", plan)]
    command = [sys.executable, "-m", "keepstep", "export", str(MODEL), "-o", str(BUNDLE)]
    subprocess.run([*command, *schedules], check=True)
    return Bundle.open(BUNDLE)


def draw(opened: Bundle, name: str, prompt: str) -> Drawing:
    """Play one plan a few times."""
    with opened.player(name) as player:
        shape = player.inputs["noise"].shape
        noise = np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)
        inputs = {
            **player.encode(prompt),
            "noise": noise,
            "guidance_scale": np.float32(GUIDANCE_SCALE),
        }
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            image = player.run(inputs)["image"][0]
            seconds.append(time.perf_counter() - start)
        return Drawing(player.plan, image, min(seconds))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Likeness of two uint8 pictures in dB; infinite where they are the same."""
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def picture(drawings: list[Drawing], prompt: str) -> Image.Image:
    """Both pictures side by side, each over the timeline of its calls."""
    side, gap, cell = 384, 32, 384 / len(drawings[0].plan.steps)
    sheet = Image.new("RGB", (2 * side + 3 * gap, side + 150), "white")
    pen = ImageDraw.Draw(sheet)
    heading, small = ImageFont.load_default(18), ImageFont.load_default(13)
    for i, drawing in enumerate(drawings):
        left = gap + i * (side + gap)
        speed = drawings[0].seconds / drawing.seconds
        title = f"{drawing.plan.name}: {drawing.seconds:.2f} s" + (f", {speed:.1f}x" if i else "")
        pen.text((left, 12), title, fill="black", font=heading)
        big = Image.fromarray(drawing.image).resize((side, side), Image.Resampling.BICUBIC)
        sheet.paste(big, (left, 44))
        top = side + 60
        for k, step in enumerate(drawing.plan.steps):
            box = (left + k * cell, top, left + (k + 1) * cell - 1.5, top + 26)
            pen.rectangle(box, fill=COLOURS[step.label])
    x = gap
    for kind, label in (("full", "full"), ("shallow", "shallow"), ("skip", "skipped: no launch")):
        pen.rectangle((x, side + 104, x + 14, side + 118), fill=COLOURS[kind])
        pen.text((x + 20, side + 103), label, fill="black", font=small)
        x += 40 + 8 * len(label)
    note = f"“{prompt}”, {len(drawings[0].plan.steps)} calls of the sampler, in order"
    pen.text((side + 2 * gap, side + 103), note, fill="black", font=small)
    return sheet


def main() -> None:
    """Export if needed, draw twice, compare."""
    prompt = sys.argv[1] if len(sys.argv) > 1 else "a red apple"
    console = Console()
    opened = bundle()
    drawings = [draw(opened, name, prompt) for name in PLANS]
    table = Table(title=f'"{prompt}"', title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("plan", "seconds", "speed-up", "full", "shallow", "skipped", "against full"):
        table.add_column(heading, justify="left" if heading == "plan" else "right")
    for drawing in drawings:
        kinds = [step.label for step in drawing.plan.steps]
        likeness = psnr(drawing.image, drawings[0].image)
        table.add_row(
            drawing.plan.name,
            f"{drawing.seconds:.2f}",
            f"{drawings[0].seconds / drawing.seconds:.2f}×",
            *(str(kinds.count(kind)) for kind in ("full", "shallow", "skip")),
            "same" if likeness == float("inf") else f"{likeness:.1f} dB",
        )
    console.print(table)
    OUT.mkdir(exist_ok=True)
    picture(drawings, prompt).save(OUT / "demo.png")
    console.print(f"pictures: {(OUT / 'demo.png').relative_to(ROOT)}")
    assert "torch" not in sys.modules, "playing a bundle must not load PyTorch"


if __name__ == "__main__":
    main()
