"""`keepstep bench`: every plan, compiled and eager, with time and quality side by side."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli import tiny_bundle
from cli.outcome import Command, refused
from cli.tiny_bundle import contents, seal
from models_for_tests import write_model, write_xl_model

from keepstep.bench import Setting, benchmark, driver
from keepstep.bench.configurations import CompiledConfiguration
from keepstep.bench.eager import EagerModel, Place
from keepstep.bench.equal_latency import Plain, plain_bundle
from keepstep.bench.footprint import Footprint
from keepstep.bench.rows import Row
from keepstep.exporter import export
from keepstep.exporter.check.reference import run_eagerly
from keepstep.exporter.engines.onnxruntime import OnnxRuntimeBuilder
from keepstep.exporter.errors import ExportError
from keepstep.exporter.schedule.schema import Schedule, parse
from keepstep.exporter.schedule.settings import Sampler
from keepstep.playing.conditioning import noise
from keepstep.runtime import Bundle

ROWS = [(plan, how) for plan in ("full", "dato-coco") for how in ("eager", "onnxruntime")]
STEPS = 2
TWO_PLANS = Footprint(one=45_000_000, two=67_800_000)
PLAIN = Plain(
    "dato-coco", "onnxruntime", Sampler(scheduler="PNDMScheduler", steps=STEPS), 3, 1.0, 1.0
)


def data_of(keepstep: Command, bundle: Path, *more: object) -> Any:
    outcome = keepstep("bench", bundle, "--repeats", 1, "--threads", 1, *more, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    return json.loads(outcome.out)


@pytest.fixture
def quick_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peaks are measured by processes of their own, which `test_peak_memory…` looks at."""
    monkeypatch.setattr(driver, "peak_memory", lambda configuration: 123_000_000)
    monkeypatch.setattr(
        driver, "footprint", lambda configuration: None if configuration.model else TWO_PLANS
    )


@pytest.fixture
def two_steps_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many do would depend on the machine; that is looked at in test_bench_equal_latency."""
    monkeypatch.setattr(driver, "plain_for", lambda *_: [PLAIN])


@pytest.mark.usefixtures("quick_memory", "two_steps_fit")
def test_bench_measures_every_plan_compiled_and_eager_and_plain_steps(
    keepstep: Command, bundle: Path, model: Path, workplace: Path
) -> None:
    page = workplace / "bench.html"
    data = data_of(keepstep, bundle, "--model", model, "--html", page)
    assert data["keepstep"] == 1
    assert data["bundle"]["name"] == "tiny"
    assert data["bundle_bytes"] > 0
    assert data["setting"]["repeats"] == 1
    assert data["machine"]["cores"] >= 1
    assert data["eager"] == {"device": "cpu", "dtype": "float32"}
    assert data["notes"] == []
    rows = data["rows"]
    found = [(row["plan"], row["how"]) for row in rows]
    assert found == [*ROWS, ("plain, 2 steps", "onnxruntime")]
    for row in rows:
        assert row.keys() == {field.name for field in fields(Row)}
        assert 0 < row["loop_seconds"]["median"] < row["seconds"]["median"]
        assert row["seconds"]["fastest"] <= row["seconds"]["median"] <= row["seconds"]["slowest"]
        assert row["peak_bytes"] == 123_000_000
        assert row["memory"] == (None if row["how"] == "eager" else vars(TWO_PLANS))
        assert row["device_bytes"] == 0
        assert {"full", "decode"} <= row["call_seconds"].keys()
        assert ("shallow" in row["call_seconds"]) == (row["plan"] == "dato-coco")
        assert (row["golden_error"] is None) == (
            row["how"] == "eager" or row["plan"].startswith("plain")
        )
        total = sum(seconds for _, seconds in row["timeline"])
        assert total <= row["seconds"]["slowest"] + 1e-9, "on a CPU both are of one run"
    assert [row["launches"] for row in rows] == [None, 8, None, 7, 6]
    (compared,) = data["equal_latency"]
    assert (compared["plan"], compared["plain"], compared["steps"]) == (
        "dato-coco",
        "plain, 2 steps",
        STEPS,
    )
    assert compared["plain_psnr"] == rows[-1]["psnr"]
    assert contents(workplace).keys() == {"bench.html"}
    assert "plain, 2 steps" in page.read_text(encoding="utf-8")


@pytest.mark.usefixtures("quick_memory")
def test_bench_holds_every_plan_against_the_full_one(keepstep: Command, bundle: Path) -> None:
    data = data_of(keepstep, bundle)
    full, pruned = data["rows"]
    assert [full["how"], pruned["how"]] == ["onnxruntime"] * 2
    assert full["psnr"] is None, "the baseline is the very picture it is compared with"
    assert full["ssim"] == pytest.approx(1)
    assert full["gains"] == {"schedule": 1, "compiling": None, "total": 1}
    assert full["measured_over_ideal"] == pytest.approx(1)
    assert 5 < pruned["psnr"] < 99
    assert pruned["ssim"] < 1
    share = pruned["loop_macs"] / full["loop_macs"]
    assert 0 < share < 1
    assert pruned["ideal_seconds"] == pytest.approx(share * full["loop_seconds"]["median"])
    assert pruned["golden_error"] < 1e-3
    assert data["eager"] is None
    assert "--model" in data["notes"][0]


@pytest.mark.usefixtures("quick_memory")
def test_bench_shows_tables_with_a_line_for_every_row(keepstep: Command, bundle: Path) -> None:
    outcome = keepstep("bench", bundle, "--repeats", 1, "--threads", 1)
    assert outcome.code == 0
    title, _, speed, *lines = outcome.out.strip().splitlines()
    assert title.startswith("tiny, float32, 64 × 64: ")
    for words in ("plan", "s/image", "schedule", "compiling", "total", "PSNR", "SSIM"):
        assert words in speed
    assert [line.split()[0] for line in lines[:2]] == ["full", "dato-coco"]
    assert "same" in lines[0]
    assert "dB" in lines[1]
    cost = next(i for i, line in enumerate(lines) if "÷ ideal" in line)
    assert [line.split()[0] for line in lines[cost + 1 : cost + 3]] == ["full", "dato-coco"]
    assert "123.0 MB" in lines[cost + 1]
    assert "45.0 MB, 67.8 MB" in lines[cost + 1]
    assert "memory" in lines[cost]
    assert all(len(line) <= 130 for line in outcome.out.splitlines())


def test_plain_steps_are_built_of_the_bundles_own_stages(
    bundle: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against an eager run of as many steps, and with a builder that refuses."""

    def refuse(*_: object) -> bytes:
        raise AssertionError("a stage was built again")

    three = replace(PLAIN, sampler=Sampler(scheduler="PNDMScheduler", steps=3))
    monkeypatch.setattr(OnnxRuntimeBuilder, "build", refuse)
    told: list[str] = []
    opened = Bundle.open(bundle)
    setting = Setting("a red apple", threads=1)
    loaded = EagerModel(str(model), opened, Place("cpu", "float32")).modules
    plain = Schedule.load("full").model_copy(update={"sampler": three.sampler})
    expected = run_eagerly(
        loaded,
        plain,
        torch.from_numpy(noise((1, *loaded.latent_shape), setting.seed)),
        loaded.embed([setting.prompt], [""]),
        setting.guidance_scale,
    )
    with plain_bundle(opened, [three], str(model), lambda what, *_: told.append(what)) as exported:
        configuration = CompiledConfiguration(exported, three.name, "onnxruntime", setting)
        image = configuration.run().image
        configuration.close()
        folder = exported.path
    # Rounding to 8 bits can fall on the other side by one.
    assert np.abs(image.astype(int) - expected.image).max() <= 1
    assert all("stages in the cache" in what for what in told)
    assert not folder.exists()


def test_another_checkpoint_is_no_comparison(bundle: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "tiny", seed=7)
    config = other / "unet/config.json"
    size = {"sample_size": tiny_bundle.LATENT}
    config.write_text(json.dumps(json.loads(config.read_text()) | size))
    with (
        pytest.raises(ExportError, match="other weights"),
        plain_bundle(Bundle.open(bundle), [PLAIN], str(other), lambda *_: None),
    ):
        pass


@pytest.mark.usefixtures("two_steps_fit")
@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ({"bundle.json": ("keepstep 0.1.0", "keepstep 0.0.9")}, "made by keepstep 0.0.9"),
        ({"settings.json": ("kept_in_float32", "kept")}, "settings.json does not say how"),
    ],
    ids=["another version", "no settings"],
)
def test_what_keeps_plain_steps_from_being_exported_is_a_note(
    damage: dict[str, tuple[str, str]], why: str, damaged: Path, model: Path
) -> None:
    for name, (old, new) in damage.items():
        file = damaged / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
    seal(damaged)
    setting = Setting(repeats=1, eager_repeats=0, threads=1, peaks=False)
    report = benchmark(Bundle.open(damaged), setting, str(model))
    assert [row.plan for row in report.rows] == ["full", "dato-coco"]
    assert not report.equal_latency
    (note,) = report.notes
    assert note.startswith("fewer plain steps were not measured: ")
    assert why in note
    assert "export it again" in note


def test_an_sdxl_bundle_is_measured_compiled_and_eager(tmp_path: Path) -> None:
    folder = write_xl_model(tmp_path / "xl")
    schedule = parse(
        "keepstep: 1\nname: full\nsampler: {scheduler: EulerDiscreteScheduler, steps: 2}\n"
        "calls: {repeat: F}"
    )
    bundle = export(folder, [schedule], tmp_path / "out", verify="none")
    report = benchmark(bundle, Setting(repeats=1, threads=1, peaks=False), str(folder))
    eager, compiled = report.rows
    assert (eager.how, compiled.how) == ("eager", "onnxruntime")
    # Rounding to 8 bits can fall on the other side by one: 48 dB everywhere.
    assert eager.psnr is None or eager.psnr > 48


BACKENDS = {
    "unknown": ("onnxruntme", ["no backend 'onnxruntme'", "onnxruntime"]),
    "no engines": ("null", ["'null' plays nothing of plan 'full'", "onnxruntime"]),
    "no GPU": ("tensorrt-rtx", ["'tensorrt-rtx' needs"]),
}


@pytest.mark.parametrize("case", BACKENDS)
def test_a_backend_that_cannot_play_is_refused_with_the_reason(
    case: str, keepstep: Command, bundle: Path
) -> None:
    name, words = BACKENDS[case]
    if name in driver.backends_for(Bundle.open(bundle), "full"):
        pytest.skip("this machine plays it")
    refused(keepstep("bench", bundle, "--backend", name), *words)


def test_a_backend_is_measured_once_however_often_it_is_given(
    keepstep: Command, bundle: Path
) -> None:
    twice = ["--backend", "onnxruntime"] * 2
    rows = data_of(keepstep, bundle, "--no-peaks", *twice)["rows"]
    assert [row["how"] for row in rows] == ["onnxruntime"] * 2
    assert [(row["peak_bytes"], row["memory"]) for row in rows] == [(None, None)] * 2


@pytest.mark.parametrize(
    ("name", "words"),
    [("bench.txt", "ends in .html"), ("no/bench.html", "there is no folder")],
)
def test_a_page_that_cannot_be_written_is_refused_before_anything_is_measured(
    name: str, words: str, keepstep: Command, bundle: Path, workplace: Path
) -> None:
    refused(keepstep("bench", bundle, "--html", workplace / name), words)
    assert contents(workplace) == {}


def test_a_folder_that_is_no_model_is_refused(
    keepstep: Command, bundle: Path, workplace: Path
) -> None:
    refused(keepstep("bench", bundle, "--model", workplace), "no model_index.json there")
