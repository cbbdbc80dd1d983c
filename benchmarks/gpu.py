"""Measures SD1.5 and SDXL on this machine's GPU and writes docs/benchmarks/GPU.{json,md}.

One command, under nine minutes: whether engines load on this GPU at all, whether stages give what
PyTorch gives in float32, then all rows for every backend that plays. Models are made on the spot
from their published configurations. What does not fit into the time is told and left out; run it
again with the same --work, and it goes on there.

Usage: python benchmarks/gpu.py [--dry-run] [--minutes 9] [--models sd15 sdxl]
           [--backends tensorrt-rtx onnxruntime-cuda aotinductor-cuda] [--work out/gpu]
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gpu_report import gathered, markdown, steps_with_output
from gpu_steps import CASES, ENGINES, steps
from page import OUT, ROOT, write
from rich.console import Console
from rich.table import Table
from runner import Runner, Step

from keepstep.bench.machine import conditions
from keepstep.runtime import KeepstepError
from keepstep.runtime.backends import backend

USUAL = ("tensorrt-rtx", "onnxruntime-cuda")
OTHERWISE = "aotinductor-cuda"  # where none of those can run: all that it needs is PyTorch
console = Console()


def refused(backends: Sequence[str]) -> dict[str, str]:
    """The backends that cannot run here → what they need."""
    found = {}
    for name in backends:
        try:
            backend(name)
        except KeepstepError as error:
            found[name] = str(error)
    return found


def show(programme: Sequence[Step]) -> None:
    """What would be done, in order."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black")
    for heading in ("about", "step", "command"):
        table.add_column(heading, justify="right" if heading == "about" else "left")
    for step in programme:
        words = ["python" if word == sys.executable else word for word in step.command]
        command = shlex.join(word.removeprefix(f"{ROOT}/") for word in words)
        table.add_row(f"{step.seconds:.0f} s", step.name, command)
    Console(width=max(console.width, 160)).print(table)


def measure(programme: Sequence[Step], why: dict[str, str], work: Path, minutes: float) -> None:
    """Run everything that fits, then write both files."""
    begin = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - begin:5.0f} s  {text}", markup=False, highlight=False)

    runner = Runner(work / "results", begin + 60 * minutes, say)
    results = runner.run(programme)
    outputs = {name: runner.output(name) for name in steps_with_output(results)}
    data = gathered(conditions(), why, results, outputs)
    name = re.sub(r"[^a-z0-9]+", "-", str(data["conditions"]["gpu"]).lower())
    write(name, data, markdown(data))
    say(f"{OUT / name}.md: written")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    parser.add_argument("--minutes", type=float, default=8.8, help="that all of it may take")
    parser.add_argument("--models", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--backends", nargs="+", choices=ENGINES)
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all rows")
    parser.add_argument("--work", type=Path, default=ROOT / "out/gpu", help="kept between runs")
    given = parser.parse_args()
    backends = given.backends or [*USUAL]
    why = refused(backends)
    if not given.backends and len(why) == len(backends):
        backends.append(OTHERWISE)
        why |= refused([OTHERWISE])
    work = given.work.absolute()
    if given.dry_run:
        show(steps(given.models, backends, work, given.repeats))
        for reason in why.values():
            console.print(f"not here: {reason}", markup=False, highlight=False, soft_wrap=True)
        return
    usable = [name for name in backends if name not in why]
    if not usable:
        sys.exit("gpu.py: nothing to measure: " + "; ".join(why.values()))
    measure(steps(given.models, usable, work, given.repeats), why, work, given.minutes)


if __name__ == "__main__":
    main()
