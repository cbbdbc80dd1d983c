"""Exports models of real sizes for TensorRT-RTX, without a GPU, and measures what that takes.

Each export is the command itself, in a fresh process, first with an empty cache and then once
more. Weights are zeros: shapes alone decide what is built. Writes docs/benchmarks/engines.{json,md}
of UNets, engines-transformers.{json,md}, and engines-kept-tokens.{json,md} of CAT's schedule.

Usage: python benchmarks/engines.py [CASE …]     with nothing else running; see `CASES`
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from page import ROOT, head, table, write

from keepstep.bench.machine import conditions
from keepstep.exporter.schedule.schema import Schedule

OPTIONS = ("--backend", "tensorrt-rtx", "--verify", "none")
COLUMNS = (
    "model",
    "dtype",
    "weights are",
    "plans",
    "stages",
    "first, s",
    "again, s",
    "peak, GB",
    "engines, MB",
    "weights, MB",
    "bundle, MB",
    "weights ÷ bundle",
)


@dataclass(frozen=True)
class Case:
    """What is exported: a model of checkpoints.json, its schedules, and where its weights go; and
    the page that says so.

    A schedule is a built-in one, or one with another ratio behind an @.
    """

    model: str
    schedules: tuple[str, ...]
    weights: str = "shared"
    dtype: str = "float16"
    page: str = "engines"


@dataclass(frozen=True)
class Row:
    """What one case took; bytes and seconds."""

    case: str
    model: str
    dtype: str
    weights: str
    schedules: Sequence[str]
    stages: int
    first_seconds: float
    second_seconds: float
    peak_bytes: int  # of the first export's process
    engine_bytes: dict[str, int]  # by the stage's name and hash
    weight_bytes: int  # of the file that engines share
    bundle_bytes: int


SD15 = ("full", "deepcache-n3", "dato-coco", "dato-coco@0.6")
SDXL = ("full", "deepcache-n3", "sdxl-dato")
BLOCKS = ("full", "blocks-n3")
TRANSFORMERS = "engines-transformers"
KEPT_TOKENS = "engines-kept-tokens"
CASES = {
    "sd15": Case("sd15", SD15),
    "sd15-dato-coco": Case("sd15", ("dato-coco",)),
    "sd15-embedded": Case("sd15", ("dato-coco",), "embedded"),
    "sdxl": Case("sdxl", SDXL),
    "sdxl-embedded": Case("sdxl", ("sdxl-dato",), "embedded"),  # takes 17 GB of memory
    "sd3": Case("sd3", BLOCKS, page=TRANSFORMERS),
    "pixart-sigma": Case("pixart-sigma", BLOCKS, page=TRANSFORMERS),
    "flux-dev": Case("flux-dev", BLOCKS, dtype="bfloat16", page=TRANSFORMERS),  # 34 GB of weights
    "sd3-cat": Case("sd3", ("cat-28",), page=KEPT_TOKENS),
    "pixart-sigma-cat": Case("pixart-sigma", ("cat-28",), page=KEPT_TOKENS),
    "flux-schnell": Case("flux-schnell", ("full",), dtype="bfloat16", page=TRANSFORMERS),
}
USUAL = ("sd15", "sd15-dato-coco", "sd15-embedded", "sdxl", "sd3", "pixart-sigma", "flux-dev")
USUAL += ("sd3-cat", "pixart-sigma-cat")


def schedule_file(name: str, folder: Path) -> str:
    """What `--schedule` is given: a built-in name, or the path of a file with another ratio."""
    base, _, ratio = name.partition("@")
    if not ratio:
        return name
    schedule = Schedule.load(base)
    assert schedule.prune
    assert isinstance(schedule.calls, tuple)
    prune = schedule.prune.model_copy(update={"ratio": float(ratio)})
    changes = {
        "name": f"{base}-{ratio}",
        "prune": prune,
        "calls": tuple(
            call.model_copy(update={"prune": prune}) if call.prune else call
            for call in schedule.calls
        ),
    }
    path = folder / f"{base}-{ratio}.yaml"
    path.write_text(schedule.model_copy(update=changes).to_yaml(), encoding="utf-8")
    return str(path)


def timed(command: Sequence[str], cache: Path) -> tuple[float, int]:
    """Seconds from start to end of a process, and the peak of its resident memory in bytes."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, "KEEPSTEP_CACHE": str(cache)})
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return seconds, 1024 * usage.ru_maxrss


def measure(name: str, case: Case, models: Path) -> Row:
    """Export `case` twice in folders of its own, which are then removed."""
    model = models / case.model
    if not model.exists():  # a process of its own: what torch takes would count as the exports'
        command = [sys.executable, str(ROOT / "benchmarks/checkpoints.py"), case.model, str(model)]
        subprocess.run(command, check=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundle = folder / "bundle"
        command = [sys.executable, "-m", "keepstep", "export", str(model), "-o", str(bundle)]
        command += [*OPTIONS, "--dtype", case.dtype, "--weights", case.weights]
        for schedule in case.schedules:
            command += ["-s", schedule_file(schedule, folder)]
        first, peak = timed(command, folder / "cache")
        second, _ = timed(command, folder / "cache")
        sizes = {
            path.relative_to(bundle).as_posix(): path.stat().st_size
            for path in bundle.rglob("*")
            if path.is_file()
        }
    engines = {Path(path).stem: n for path, n in sizes.items() if path.endswith(".engine")}
    return Row(
        case=name,
        model=case.model,
        dtype=case.dtype,
        weights=case.weights,
        schedules=case.schedules,
        stages=len(engines),
        first_seconds=first,
        second_seconds=second,
        peak_bytes=peak,
        engine_bytes=engines,
        weight_bytes=sizes.get("weights.safetensors", 0),
        bundle_bytes=sum(sizes.values()),
    )


def cells(row: Row) -> list[str]:
    """One line of the table, as text."""
    share = row.weight_bytes / row.bundle_bytes
    return [
        row.model,
        row.dtype,
        row.weights,
        ", ".join(row.schedules),
        str(row.stages),
        f"{row.first_seconds:.0f}",
        f"{row.second_seconds:.1f}",
        f"{row.peak_bytes / 1e9:.1f}",
        f"{sum(row.engine_bytes.values()) / 1e6:.1f}",
        f"{row.weight_bytes / 1e6:.1f}" if row.weight_bytes else "",
        f"{row.bundle_bytes / 1e6:.1f}",
        f"{share:.3f}" if row.weight_bytes else "",
    ]


def markdown(machine: dict[str, Any], rows: Sequence[Row]) -> list[str]:
    """The report as the lines of a page."""
    lines = head(
        "Real sizes, exported without a GPU",
        "engines.py",
        machine,
        [f"`keepstep export` with `{' '.join(OPTIONS)}`, each model at its own picture size."],
    )
    lines += table(COLUMNS, [cells(row) for row in rows], 4)
    for row in rows:
        engines = [[name, f"{n / 1e6:.2f}"] for name, n in sorted(row.engine_bytes.items())]
        lines += [f"## {row.case}", "", *table(("engine", "MB"), engines, 1)]
    return lines


def main() -> None:
    """Measure, then write both files."""
    names = sys.argv[1:] or USUAL
    if unknown := [name for name in names if name not in CASES]:
        sys.exit(f"engines.py: {', '.join(unknown)}: no such case; known are {', '.join(CASES)}")
    machine = conditions()
    for page in dict.fromkeys(CASES[name].page for name in names):
        with tempfile.TemporaryDirectory() as models:
            rows = [
                measure(name, CASES[name], Path(models))
                for name in names
                if CASES[name].page == page
            ]
        report = {"machine": machine, "options": OPTIONS, "rows": [asdict(row) for row in rows]}
        write(page, report, markdown(machine, rows))


if __name__ == "__main__":
    main()
