"""Draws a picture of each of the two small models twice, with every call full and with a schedule
that saves calls or tokens, and compares.

The first time it exports `models/emoji` and `models/emoji-dit` into `engines`. Playing needs no
PyTorch.
Usage: python examples/demo.py [PROMPT of emoji-dit]
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from keepstep.runtime import Bundle, KeepstepError, Plan

ROOT = Path(__file__).resolve().parents[1]
MODELS, BUNDLES, OUT = ROOT / "models", ROOT / "engines", ROOT / "out"
COLOURS = {"full": "#1f5fbf", "shallow": "#7fc4e8", "skip": "#e4e4e4"}
SEED, REPEATS = 0, 3


@dataclass(frozen=True)
class Demo:
    """A model, and what is drawn with it; plans: the full one, then the one to compare."""

    model: str
    prompt: str
    plans: tuple[str, str]
    also: tuple[str, ...] = ()  # further schedules of the bundle, to try by hand


DEMOS = (
    Demo("emoji", "a red apple", ("full", "dato-coco"), ("deepcache-n3",)),
    Demo("emoji-dit", "a yellow star with one eye, a grin and a bow", ("full", "blocks-n3")),
)


@dataclass(frozen=True)
class Drawing:
    """A picture, and the seconds that it took."""

    plan: Plan
    image: np.ndarray  # uint8 (H, W, 3)
    seconds: float  # the fastest of the repeats


def bundle(demo: Demo) -> Bundle:
    """The exported model; exported now if it is not there or cannot be read."""
    folder = BUNDLES / demo.model
    try:
        opened = Bundle.open(folder)
        if set(demo.plans) <= set(opened.plans):
            return opened
    except KeepstepError:
        pass
    schedules = [word for plan in (*demo.plans, *demo.also) for word in ("-s", plan)]
    model = str(MODELS / demo.model)
    command = [sys.executable, "-m", "keepstep", "export", model, "-o", str(folder)]
    subprocess.run([*command, *schedules], check=True)
    return Bundle.open(folder)


def draw(opened: Bundle, name: str, prompt: str) -> Drawing:
    """Play one plan a few times."""
    with opened.player(name) as player:
        shape = player.inputs["noise"].shape
        noise = np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)
        inputs = {**player.encode(prompt), "noise": noise}
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
    sheet = Image.new("RGB", (2 * side + 3 * gap, side + 170), "white")
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
            box = (left + round(k * cell), top, left + round((k + 1) * cell) - 2, top + 26)
            pen.rectangle(box, fill=COLOURS[step.label])
    x = gap
    for kind, label in (("full", "full"), ("shallow", "shallow"), ("skip", "skipped: no launch")):
        pen.rectangle((x, side + 104, x + 14, side + 118), fill=COLOURS[kind])
        pen.text((x + 20, side + 103), label, fill="black", font=small)
        x += 40 + 8 * len(label)
    note = f"“{prompt}”, {len(drawings[0].plan.steps)} calls of the sampler, in order"
    pen.text((gap, side + 128), note, fill="black", font=small)
    return sheet


def compare(demo: Demo, console: Console) -> Image.Image:
    """Draw twice, print the times; gives the pictures."""
    opened = bundle(demo)
    drawings = [draw(opened, name, demo.prompt) for name in demo.plans]
    title = f'{demo.model}: "{demo.prompt}"'
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
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
    return picture(drawings, demo.prompt)


def main() -> None:
    """Export if needed, draw every demo, and put the pictures below each other."""
    emoji, dit = DEMOS
    demos = (emoji, replace(dit, prompt=sys.argv[1]) if len(sys.argv) > 1 else dit)
    console = Console()
    sheets = [compare(demo, console) for demo in demos]
    whole = Image.new("RGB", (sheets[0].width, sum(sheet.height for sheet in sheets)), "white")
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    OUT.mkdir(exist_ok=True)
    whole.save(OUT / "demo.png")
    console.print(f"pictures: {(OUT / 'demo.png').relative_to(ROOT)}")
    assert "torch" not in sys.modules, "playing a bundle must not load PyTorch"


if __name__ == "__main__":
    main()
