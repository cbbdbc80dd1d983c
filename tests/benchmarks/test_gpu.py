"""The GPU benchmark without a GPU: its programme, its page, and how it says that there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gpu_idle import idle_share
from gpu_report import gathered, markdown, steps_with_output
from gpu_steps import CASES, ENGINES, steps
from hypothesis import given
from hypothesis import strategies as st
from runner import Result

from keepstep.runtime.gpu import gpu_fault

ROOT = Path(__file__).resolve().parents[2]
PROGRAMME = steps(list(CASES), list(ENGINES), Path("work"), 5)


def gpu_py(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_dry_run_says_every_command_and_what_is_missing_here() -> None:
    done = gpu_py("--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    words = " ".join(done.stdout.split())
    for what in ("draw sd15", "export sdxl-shared", "bench sd15-shared on tensorrt-rtx", "idle"):
        assert what in words
    assert "checkpoints.py sd15 out/gpu/models/sd15 --weights random" in words
    if gpu_fault():
        assert "not here: backend 'onnxruntime-cuda' needs" in words


@pytest.mark.skipif(gpu_fault() is None, reason="there is a GPU here")
def test_without_a_gpu_it_ends_with_the_reason(tmp_path: Path) -> None:
    done = gpu_py("--work", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("gpu.py: nothing to measure: backend 'tensorrt-rtx' needs")
    assert list(tmp_path.iterdir()) == []


def test_every_step_comes_behind_those_that_it_needs() -> None:
    names = [step.name for step in PROGRAMME]
    assert len(set(names)) == len(names)
    for i, step in enumerate(PROGRAMME):
        assert set(step.after) <= set(names[:i]), step.name


def test_whatever_is_measured_is_measured_on_a_quiet_machine() -> None:
    for step in PROGRAMME:
        if step.name.startswith(("bench", "idle")):
            assert step.alone, step.name


def test_what_one_run_is_meant_to_do_fits_into_nine_minutes_but_for_what_comes_last() -> None:
    """Exports run side by side; each model's, drawn before, is as long as the longest of them."""
    usual = steps(list(CASES), ["tensorrt-rtx"], Path("work"), 5)
    last = ("embedded", "torch.compile")
    wanted = [step for step in usual if not any(word in step.name for word in last)]
    together = max(case.draw + case.export[0] for case in CASES.values())
    assert together + sum(step.seconds for step in wanted if step.alone) < 9 * 60


def row(plan: str, how: str, seconds: float, gains: tuple[float | None, ...]) -> dict[str, Any]:
    spread = {"median": seconds, "fastest": seconds, "slowest": seconds}
    return {
        "plan": plan,
        "how": how,
        "seconds": spread,
        "loop_seconds": spread,
        "measured_over_ideal": 1.05,
        "gains": dict(zip(("schedule", "compiling", "total"), gains, strict=True)),
        "device_bytes": 2_500_000_000,
        "psnr": 30.8,
    }


CONDITIONS = {
    "gpu": "NVIDIA H100",
    "driver": "580.1",
    "processor": "x86",
    "cores": 16,
    "python": "3.12",
    "packages": {"torch": "2.11"},
}


def page(results: dict[str, Result], found: dict[str, str], refused: dict[str, str]) -> str:
    return "\n".join(markdown(gathered(CONDITIONS, refused, results, found)))


def test_the_page_tells_a_gpu_that_a_library_refuses_in_the_librarys_words() -> None:
    said = "keepstep: … TensorRT-RTX does not run on NVIDIA H100: UNSUPPORTED_CC; play with …"
    name = "play emoji on tensorrt-rtx"
    text = page({name: Result(name, (), "failed", 3, said)}, {}, {"tensorrt": "not installed"})
    assert "| tensorrt-rtx | failed: keepstep: … TensorRT-RTX does not run" in text
    assert "| tensorrt | no: not installed |  |" in text
    assert "SD1.5 was not measured." in text


def test_the_page_holds_what_was_measured_beside_the_targets() -> None:
    rows = [
        row("dato-coco", "eager", 0.4, (5.0, 1.0, 5.0)),
        row("dato-coco", "tensorrt-rtx", 0.05, (9.5, 8.0, 40.0)),
    ]
    found = {
        "bench sd15-shared on tensorrt-rtx": {
            "rows": rows,
            "notes": ["a note"],
            "equal_latency": [{"sentence": "ahead of 7 plain steps"}],
        },
        "idle sd15-shared dato-coco on tensorrt-rtx": {
            "plan": "dato-coco",
            "kernels": 900,
            "idle": 0.0125,
        },
    }
    names = {name: Result(name, (), "done", 9.0) for name in found}
    text = page(names, {name: json.dumps(data) for name, data in found.items()}, {})
    assert "## sd15-shared on tensorrt-rtx" in text
    assert "| dato-coco | tensorrt-rtx | 0.0500 |" in text
    assert "| times faster than eager | 40.00× | ≥ 20× |" in text
    assert "| times faster than compiled full | 9.50× | ≥ 8× |" in text
    assert "| GPU idle in the loop | 1.2% | < 2% |" in text
    assert "900 kernels" in text
    assert "a note" in text
    assert "ahead of 7 plain steps" in text


def test_what_verifies_is_read_even_where_there_is_a_mismatch() -> None:
    results = {
        name: Result(name, (), state)  # type: ignore[arg-type]
        for name, state in (
            ("verify emoji on x", "failed"),
            ("bench sd15-shared on x", "failed"),
            ("bench sdxl-shared on x", "done"),
            ("export emoji", "done"),
        )
    }
    assert steps_with_output(results) == ["verify emoji on x", "bench sdxl-shared on x"]


def test_the_idle_share_of_kernels_that_overlap_touch_and_leave_gaps() -> None:
    assert idle_share([(0, 10)]) == 0
    assert idle_share([(0, 4), (4, 10)]) == 0
    assert idle_share([(6, 10), (0, 4)]) == pytest.approx(0.2)
    assert idle_share([(0, 8), (1, 3), (2, 4), (9, 10)]) == pytest.approx(0.1)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), min_size=1))
def test_the_idle_share_is_that_of_the_ticks_in_which_nothing_runs(
    spans: list[tuple[int, int]],
) -> None:
    busy = {tick for begin, length in spans for tick in range(begin, begin + length)}
    first, last = min(busy), max(busy) + 1
    share = idle_share([(begin, begin + length) for begin, length in spans])
    assert share == pytest.approx(1 - len(busy) / (last - first))
