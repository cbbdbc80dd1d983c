"""The benchmark: every plan of a bundle, and the same schedules run eagerly, on this machine.

All cells take turns, round after round, so that a disturbance of the machine meets them alike.
Times are given as medians with their spread, and beside every time stands the picture's quality.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from keepstep.runtime import Bundle

from .bench_cells import Cell, CompiledCell, EagerCell, Run, Setting
from .bench_memory import peak_memory
from .machine import conditions
from .summary import loop_macs
from .verify import verify

Progress = Callable[[str, int, int], None]

BASELINE = "full"  # the plan against which speed and quality are measured


@dataclass(frozen=True)
class Row:
    """One line of the benchmark's table; seconds are medians over the repeats."""

    plan: str
    how: str
    seconds: float
    fastest: float
    slowest: float
    loop_seconds: float
    call_seconds: Mapping[str, float]
    loop_macs: int
    ideal_seconds: float | None  # loop time of the full plan × share of its MACs
    measured_over_ideal: float | None
    speedup: float  # over the eager run of `full`, or its compiled plan where nothing is eager
    peak_bytes: int
    psnr: float | None  # of the picture against the full plan; None: the very same picture
    ssim: float
    golden_error: float | None  # relative, of the compiled plan against its eager golden run


def benchmark(bundle: Bundle, setting: Setting, model: str | None, report: Progress) -> list[Row]:
    """Measure every plan of `bundle`; with `model`, also run every schedule eagerly."""
    cells = list(_cells(bundle, setting, model))
    runs: dict[int, list[Run]] = defaultdict(list)
    total = len(cells) * (setting.repeats + 1)
    for i, cell in enumerate(cells):
        report(f"warm up: {cell.plan}, {cell.how}", i, total)
        cell.run()
    for turn in range(setting.repeats):
        for i, cell in enumerate(cells):
            done = len(cells) * (turn + 1) + i
            report(f"round {turn + 1}: {cell.plan}, {cell.how}", done, total)
            runs[i].append(cell.run())
    report("peak memory, each in its own process", total, total)
    return _rows(bundle, cells, runs, setting, model)


def report_json(bundle: Bundle, setting: Setting, rows: Sequence[Row]) -> dict[str, Any]:
    """The benchmark as data, with the conditions under which it was made."""
    return {
        "bundle": dict(bundle.manifest.model),
        "setting": asdict(setting),
        "machine": conditions(),
        "rows": [asdict(row) for row in rows],
    }


def _cells(bundle: Bundle, setting: Setting, model: str | None) -> Iterator[Cell]:
    for plan in bundle.plans:
        if model:
            yield EagerCell(bundle, plan, model, setting)
        yield CompiledCell(bundle, plan, "onnxruntime", setting)


def _rows(
    bundle: Bundle,
    cells: Sequence[Cell],
    runs: Mapping[int, list[Run]],
    setting: Setting,
    model: str | None,
) -> list[Row]:
    names = [(cell.plan, cell.how) for cell in cells]
    baseline = BASELINE if BASELINE in bundle.plans else bundle.plans[0]
    full = runs[names.index((baseline, "onnxruntime"))]
    first = runs[names.index((baseline, "eager"))] if model else full
    full_loop = median(_loop(run) for run in full)
    full_macs = loop_macs(bundle.plan(baseline))
    rows = []
    for i, cell in enumerate(cells):
        seconds = [run.seconds for run in runs[i]]
        loop = median(_loop(run) for run in runs[i])
        macs = loop_macs(bundle.plan(cell.plan))
        compiled = cell.how != "eager"
        ideal = full_loop * macs / full_macs if compiled else None
        psnr, ssim = similarity(runs[i][0].image, full[0].image)
        rows.append(
            Row(
                plan=cell.plan,
                how=cell.how,
                seconds=median(seconds),
                fastest=min(seconds),
                slowest=max(seconds),
                loop_seconds=loop,
                call_seconds=_by_kind(runs[i]),
                loop_macs=macs,
                ideal_seconds=ideal,
                measured_over_ideal=loop / ideal if ideal else None,
                speedup=median(run.seconds for run in first) / median(seconds),
                peak_bytes=peak_memory(bundle.path, cell.plan, None if compiled else model),
                psnr=psnr,
                ssim=ssim,
                golden_error=_golden_error(bundle, cell.plan) if compiled else None,
            )
        )
    return rows


def _golden_error(bundle: Bundle, plan: str) -> float | None:
    """None where the bundle was exported without a whole eager run."""
    if f"golden/{plan}.safetensors" not in bundle.manifest.files:
        return None
    return verify(bundle, plan).error


def _loop(run: Run) -> float:
    return sum(s for kind, s in run.calls if kind in ("full", "shallow", "skip"))


def _by_kind(runs: Sequence[Run]) -> dict[str, float]:
    """Median seconds of one call of each kind, over all rounds."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        for kind, s in run.calls:
            seconds[kind].append(s)
    return {kind: median(values) for kind, values in seconds.items()}


def similarity(image: np.ndarray, reference: np.ndarray) -> tuple[float | None, float]:
    """PSNR in dB (None where the pictures are the same) and SSIM of uint8 (B, H, W, 3) pictures."""
    import torch
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    a, b = (
        torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).float() / 255
        for x in (image, reference)
    )
    ssim = structural_similarity_index_measure(a, b, data_range=1.0)
    same = np.array_equal(image, reference)
    psnr = None if same else float(peak_signal_noise_ratio(a, b, data_range=1.0))
    return psnr, float(ssim)
