"""`keepstep bench`: what of memory is measured, each in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from keepstep.bench import Setting, driver
from keepstep.bench.configurations import CompiledConfiguration
from keepstep.bench.eager import EagerConfiguration, EagerModel, Place
from keepstep.bench.footprint import footprint
from keepstep.bench.memory import peak_memory
from keepstep.runtime import Bundle


def test_peak_memory_is_that_of_the_playing_process_alone(bundle: Path) -> None:
    """This process is larger than a player by PyTorch and all that was exported."""
    configuration = CompiledConfiguration(Bundle.open(bundle), "full", "onnxruntime", Setting())
    peak = peak_memory(configuration)
    assert "torch" in sys.modules
    assert 20_000_000 < peak < own_peak()


def own_peak() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak if sys.platform == "darwin" else 1024 * peak) // 2


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells")
def test_two_plans_that_are_ready_take_at_least_as_much_memory_as_one(bundle: Path) -> None:
    """Nothing that they hold is given back, and what is not mapped is nobody else's."""
    opened = Bundle.open(bundle)
    found = footprint(CompiledConfiguration(opened, "full", "onnxruntime", Setting()))
    assert found is not None
    assert opened.plan("full").arena_bytes < found.one <= found.two


def test_what_pytorch_holds_is_no_player_s_memory(bundle: Path, model: Path) -> None:
    opened = Bundle.open(bundle)
    loaded = EagerModel(str(model), opened, Place("cpu", "float32"))
    assert footprint(EagerConfiguration(opened, "full", loaded, Setting())) is None


def test_where_the_system_does_not_tell_there_is_no_figure(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepstep.bench.footprint._SMAPS", Path("missing"))
    assert (
        footprint(CompiledConfiguration(Bundle.open(bundle), "full", "onnxruntime", Setting()))
        is None
    )


@pytest.mark.long  # two processes that load a model
def test_a_peak_that_cannot_be_measured_is_a_note(
    bundle: Path, model: Path, tmp_path: Path
) -> None:
    """The process of its own finds no model; this one has loaded it before."""
    opened = Bundle.open(bundle)
    loaded = EagerModel(str(model), opened, Place("cpu", "float32"))
    loaded.modules  # noqa: B018
    loaded.folder = str(tmp_path / "gone")
    setting = Setting(repeats=1, threads=1, equal_latency=False)
    configurations = [
        EagerConfiguration(opened, "full", loaded, setting),
        CompiledConfiguration(opened, "full", "onnxruntime", setting),
    ]
    report = driver.measured_report(opened, setting, configurations, str(model))
    assert report.rows[0].peak_bytes is None
    assert report.rows[1].peak_bytes
    (note,) = report.notes
    assert note.startswith("the peak of memory of full, eager, was not measured")
