"""`keepstep bench`: every plan, compiled and eager, with time and quality side by side."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.outcome import Command

from keepstep.exporter.bench import Row, similarity
from keepstep.exporter.bench_memory import peak_memory

ROWS = [(plan, how) for plan in ("full", "dato-coco") for how in ("eager", "onnxruntime")]


def rows_of(keepstep: Command, bundle: Path, *more: object) -> Any:
    outcome = keepstep("bench", bundle, "--repeats", 1, "--threads", 1, *more, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    return json.loads(outcome.out)


@pytest.fixture
def quick_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peaks are measured by processes of their own, which `test_peak_memory…` looks at."""
    monkeypatch.setattr("keepstep.exporter.bench.peak_memory", lambda *_: 123_000_000)


@pytest.mark.usefixtures("quick_memory")
def test_bench_measures_every_plan_compiled_and_eager(
    keepstep: Command, bundle: Path, model: Path
) -> None:
    data = rows_of(keepstep, bundle, "--model", model)
    assert data["bundle"]["name"] == "tiny"
    assert data["setting"]["repeats"] == 1
    assert data["machine"]["cores"] >= 1
    rows = data["rows"]
    assert [(row["plan"], row["how"]) for row in rows] == ROWS
    for row in rows:
        assert row.keys() == {field.name for field in fields(Row)}
        assert 0 < row["loop_seconds"] < row["seconds"]
        assert row["fastest"] <= row["seconds"] <= row["slowest"]
        assert row["peak_bytes"] == 123_000_000
        assert {"full", "decode"} <= row["call_seconds"].keys()
        assert ("shallow" in row["call_seconds"]) == (row["plan"] == "dato-coco")
        assert (row["golden_error"] is None) == (row["how"] == "eager")
    baseline = rows[0]
    assert baseline["speedup"] == 1
    for row in rows:
        assert row["speedup"] == pytest.approx(baseline["seconds"] / row["seconds"])


@pytest.mark.usefixtures("quick_memory")
def test_bench_holds_every_plan_against_the_full_one(keepstep: Command, bundle: Path) -> None:
    full, pruned = rows_of(keepstep, bundle)["rows"]
    assert [full["how"], pruned["how"]] == ["onnxruntime"] * 2
    assert full["psnr"] is None, "the baseline is the very picture it is compared with"
    assert full["ssim"] == pytest.approx(1)
    assert full["speedup"] == 1
    assert full["measured_over_ideal"] == pytest.approx(1)
    assert full["ideal_seconds"] == pytest.approx(full["loop_seconds"])
    assert 5 < pruned["psnr"] < 99
    assert pruned["ssim"] < 1
    share = pruned["loop_macs"] / full["loop_macs"]
    assert 0 < share < 1
    assert pruned["ideal_seconds"] == pytest.approx(share * full["loop_seconds"])
    assert pruned["golden_error"] < 1e-3


@pytest.mark.usefixtures("quick_memory")
def test_bench_shows_a_table_with_a_line_for_every_row(keepstep: Command, bundle: Path) -> None:
    outcome = keepstep("bench", bundle, "--repeats", 1, "--threads", 1)
    assert outcome.code == 0
    heading, *lines = outcome.out.strip().splitlines()
    for words in ("plan", "s/image", "÷ ideal", "speed-up", "peak", "PSNR", "SSIM"):
        assert words in heading
    assert [line.split()[0] for line in lines] == ["full", "dato-coco"]
    assert "same" in lines[0]
    assert "dB" in lines[1]
    assert "123.0 MB" in lines[0]


def test_peak_memory_is_that_of_the_playing_process_alone(bundle: Path) -> None:
    """This process is larger than a player by PyTorch and all that was exported."""
    peak = peak_memory(bundle, "full", None)
    assert "torch" in sys.modules
    assert 20_000_000 < peak < own_peak()


def own_peak() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak if sys.platform == "darwin" else 1024 * peak) // 2


def test_the_same_picture_has_no_psnr_and_another_has_less_the_more_it_differs() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    assert similarity(image, image) == (None, pytest.approx(1))
    near, far = image // 2 * 2, 255 - image
    near_psnr, near_ssim = similarity(near, image)
    far_psnr, far_ssim = similarity(far, image)
    assert near_psnr is not None
    assert far_psnr is not None
    assert near_psnr > 45 > far_psnr
    assert near_ssim > 0.99 > far_ssim
    expected = 10 * np.log10(255**2 / np.mean((near.astype(float) - image) ** 2))
    assert near_psnr == pytest.approx(expected, rel=1e-4)
