"""Which tokens to keep, whether to cache blocks instead, or to make fewer steps: models/emoji-dit.

Every plan draws the same pictures: held-out captions, two start noises each. How near they are to
those of 28 full steps is a mean with a 95 % interval. Times are medians, one plan after the other
for every picture, so that a busy moment hits all of them.
Writes docs/benchmarks/kept-tokens.{json,md} and kept-tokens.png.

Usage: python benchmarks/kept_tokens.py [PROMPTS]     with nothing else running; 16 if not given
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median, stdev

import numpy as np
import torch
from page import OUT, ROOT, head, table, write
from PIL import Image, ImageDraw, ImageFont
from rich.progress import Progress
from torchmetrics.functional.image import structural_similarity_index_measure

from keepstep.bench.machine import conditions
from keepstep.exporter import Schedule, export
from keepstep.exporter.schedule.schema import parse
from keepstep.runtime import Bundle, Player

sys.path.append(str(ROOT / "models" / "emoji-dit"))
from recipe.attributes import held_out_face

MODEL = ROOT / "models" / "emoji-dit"
STEPS, SEEDS = 28, 2
FULL = f"full-{STEPS}"
CALLS = "FFFFFFFF" + "t" * 20  # of cat-28, for every rule
RULES = {
    "grid clusters": "clusters: grid",
    "ras": "scorer: ras",
    "noise-only": "scorer: noise-only",
    "stale-only": "scorer: stale-only",
    "random": "scorer: random",
}
BLOCKS = ("magcache-28", "scm-slow", "scm-medium", "scm-fast")
PLAIN = (10, 12, 14, 16, 20)
COLUMNS = (
    "plan",
    "calls",
    "time",
    "PSNR, dB",
    "SSIM",
    "plain steps in that time",
    "their PSNR, dB",
)
SHOWN = 4  # captions of the picture


@dataclass(frozen=True)
class Row:
    """A plan; values of every picture, beside that of 28 full steps."""

    plan: str
    calls: str
    seconds: Sequence[float]
    psnr: Sequence[float]
    ssim: Sequence[float]


def schedules() -> list[Schedule]:
    """All plans, by the names that the table has."""

    def made(name: str, steps: int, lines: str) -> Schedule:
        return parse(f"keepstep: 1\nname: {name}\nsampler: {{steps: {steps}}}\n{lines}")

    rules = {
        name.replace(" ", "-"): f"keep: {{ratio: 0.3, {rule}}}\ncalls: {CALLS}"
        for name, rule in RULES.items()
    }
    return [
        made(FULL, STEPS, "calls: {repeat: F}"),
        *map(Schedule.load, ("cat-28", "ras-28")),
        *(made(name, STEPS, lines) for name, lines in rules.items()),
        *map(Schedule.load, BLOCKS),
        *(made(f"plain-{n}", n, "calls: {repeat: F}") for n in PLAIN),
    ]


def pictures(
    players: Mapping[str, Player], prompts: Sequence[str], progress: Progress
) -> tuple[dict[str, list[np.ndarray]], dict[str, list[float]]]:
    """By plan, every picture (H, W, 3) and its seconds."""
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in players}
    seconds: dict[str, list[float]] = {name: [] for name in players}
    todo = [(prompt, seed) for prompt in prompts for seed in range(SEEDS)]
    for prompt, seed in progress.track(todo, description="draw"):
        for name, player in players.items():
            shape = player.inputs["noise"].shape
            noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
            inputs = {**player.encode(prompt), "noise": noise}
            start = time.perf_counter()
            drawn[name].append(player.run(inputs)["image"][0].copy())
            seconds[name].append(time.perf_counter() - start)
    return drawn, seconds


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """In dB; of equal pictures, that of one level of 255 in one number."""
    error = float(np.square(a.astype(np.float64) - b).mean())
    return float(10 * np.log10(255**2 / max(error, 1 / a.size)))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity, of pictures in 0 … 1."""
    one, other = (torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255 for x in (a, b))
    return float(structural_similarity_index_measure(one, other, data_range=1.0))


def interval(values: Sequence[float]) -> str:
    """The mean and its 95 % interval."""
    spread = 1.96 * stdev(values) / len(values) ** 0.5
    digits = 2 if mean(values) > 1 else 3
    return f"{mean(values):.{digits}f} ± {spread:.{digits}f}"


def cells(row: Row, rows: Sequence[Row]) -> list[str]:
    """One line of the table, as text; beside it, the most plain steps that take no longer."""
    full = median(rows[0].seconds)
    took = median(row.seconds)
    plain = [r for r in rows if r.plan.startswith("plain-") and median(r.seconds) <= 1.02 * took]
    beside = max(plain, key=lambda r: median(r.seconds), default=None)
    shown = row is not rows[0] and beside is not None and not row.plan.startswith("plain-")
    return [
        row.plan,
        row.calls,
        f"{took / full:.2f}",
        "" if row is rows[0] else interval(row.psnr),
        "" if row is rows[0] else interval(row.ssim),
        beside.plan.removeprefix("plain-") if shown and beside else "",
        interval(beside.psnr) if shown and beside else "",
    ]


def markdown(machine: dict[str, object], rows: Sequence[Row], prompts: int) -> list[str]:
    """The report as the lines of a page."""
    how = (
        f"models/emoji-dit, {prompts} held-out captions × {SEEDS} start noises, one thread; time "
        f"as a share of {FULL}'s, likeness to its pictures: means and their 95 % intervals."
    )
    lines = head("Kept tokens, cached blocks, fewer steps", "kept_tokens.py", machine, [how])
    lines += table(COLUMNS, [cells(row, rows) for row in rows], 2)
    return [*lines, "![Four captions, drawn by every plan](kept-tokens.png)", ""]


def sheet(drawn: Mapping[str, Sequence[np.ndarray]], prompts: Sequence[str]) -> Image.Image:
    """The first captions, a row for each plan."""
    side, left, top = 128, 120, 8
    whole = Image.new("RGB", (left + SHOWN * (side + 8), top + len(drawn) * (side + 8)), "white")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(13)
    for i, (name, images) in enumerate(drawn.items()):
        y = top + i * (side + 8)
        pen.text((8, y + side // 2 - 8), name, fill="black", font=font)
        for j in range(min(SHOWN, len(prompts))):
            whole.paste(Image.fromarray(images[SEEDS * j]), (left + j * (side + 8), y))
    return whole


def main() -> None:
    """Export, draw, compare, and write all files."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    chance = random.Random(0)
    prompts = [held_out_face(chance).caption for _ in range(count)]
    machine = conditions()
    with tempfile.TemporaryDirectory() as folder, Progress() as progress, ExitStack() as opened:
        made: Bundle = export(MODEL, schedules(), Path(folder) / "bundle", verify="none")
        players = {name: opened.enter_context(made.player(name, threads=1)) for name in made.plans}
        drawn, seconds = pictures(players, prompts, progress)
        letters = {"full": "F", "shallow": "s", "tokens": "t"}
        calls = {
            name: "".join(letters[step.label] for step in made.plan(name).steps) for name in drawn
        }
    rows = [
        Row(
            name,
            calls[name],
            seconds[name],
            [psnr(a, b) for a, b in zip(images, drawn[FULL], strict=True)],
            [ssim(a, b) for a, b in zip(images, drawn[FULL], strict=True)],
        )
        for name, images in drawn.items()
    ]
    report = {"machine": machine, "prompts": prompts, "rows": [asdict(row) for row in rows]}
    write("kept-tokens", report, markdown(machine, rows, len(prompts)))
    sheet(drawn, prompts).save(OUT / "kept-tokens.png")


if __name__ == "__main__":
    main()
