"""How many plain steps fit, what their plans are, and which picture is nearer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from exporter.bench_reports import PLAIN, plan, rows, together

from keepstep.bench import equal_latency
from keepstep.bench.equal_latency import Plain, calls_of, comparison, plain_for
from keepstep.bench.measure import Spread
from keepstep.bench.rows import Row
from keepstep.exporter.engines import BuildOptions, builder
from keepstep.exporter.folder.model_folder import find_folder
from keepstep.exporter.models import Checkpoint
from keepstep.exporter.schedule.settings import Sampler

SAMPLERS = {
    "PNDMScheduler": lambda steps: steps + 1 if steps > 1 else 2,
    "EulerDiscreteScheduler": lambda steps: steps,
    "HeunDiscreteScheduler": lambda steps: 2 * steps - 1,
}


@pytest.fixture
def config(model_folder: Path) -> Mapping[str, Any]:
    return Checkpoint(find_folder(str(model_folder))).config("scheduler")


def loop(row: Row, seconds: float) -> Row:
    return replace(row, loop_seconds=Spread(seconds, seconds, seconds))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [2, 5, 20])
def test_calls_are_counted_as_the_sampler_makes_them(
    name: str, steps: int, config: Mapping[str, Any]
) -> None:
    assert calls_of(Sampler(scheduler=name, steps=50), config, steps) == SAMPLERS[name](steps)


def test_calls_of_a_run_from_an_image_are_those_behind_its_beginning(
    config: Mapping[str, Any],
) -> None:
    sampler = Sampler(scheduler="EulerDiscreteScheduler", steps=50, strength=0.5)
    assert calls_of(sampler, config, 20) == 10


def plains(
    monkeypatch: pytest.MonkeyPatch, model: Path, sampler: Sampler, call: float, budget: float
) -> list[Plain]:
    """What is found for a schedule whose loop takes `budget`, where a full call takes `call`."""
    monkeypatch.setattr(
        equal_latency.Schedule, "load", lambda path: SimpleNamespace(sampler=sampler, guidance=None)
    )
    _, full, _, cached, _ = rows()
    calls = full.calls["full"]
    full = loop(replace(full, call_seconds={"full": Spread(call, call, call)}), calls * call)
    bundle: Any = SimpleNamespace(file=Path, read=lambda path: b"{}")
    return plain_for(bundle, [full, loop(cached, budget)], "full", str(model))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("calls", [3.5, 7.0, 12.9])
def test_as_many_steps_as_fit_and_not_one_more(
    name: str,
    calls: float,
    config: Mapping[str, Any],
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = 4.0  # a full run of four calls takes 16 s, and `calls` of them fit
    sampler = Sampler(scheduler=name, steps=50)
    (found,) = plains(monkeypatch, model_folder, sampler, call, min(calls * call, 15.9))
    fits = found.budget_seconds / call
    assert found.calls <= fits
    assert calls_of(sampler, config, found.sampler.steps + 1) > fits
    assert found.calls == calls_of(sampler, config, found.sampler.steps)
    assert found.predicted_seconds == pytest.approx(found.calls * call)


def test_at_least_one_step_is_made_and_no_more_than_the_schedule_has(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = Sampler(scheduler="EulerDiscreteScheduler", steps=2)
    (least,) = plains(monkeypatch, model_folder, sampler, 4.0, 0.1)
    assert (least.sampler.steps, least.name, least.label) == (1, "plain-1", "plain, 1 step")
    (most,) = plains(monkeypatch, model_folder, sampler, 4.0, 15.9)
    assert most.sampler.steps == 2


def test_what_is_not_faster_than_the_full_plan_is_not_compared(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = Sampler(scheduler="EulerDiscreteScheduler", steps=2)
    assert plains(monkeypatch, model_folder, sampler, 4.0, 16.1) == []


def test_a_full_call_is_no_slower_than_its_share_of_the_loop() -> None:
    """On a GPU calls take longer one by one, and plain sampling would be given too few steps."""
    full = rows()[1]
    slow = replace(full, call_seconds={"full": Spread(9.0, 9.0, 9.0)})
    assert equal_latency._full_call(slow) == full.loop_seconds.median / full.calls["full"]
    assert equal_latency._full_call(full) == pytest.approx(full.call_seconds["full"].median)


def test_other_samplers_with_as_many_steps_have_names_of_their_own() -> None:
    one, two = (Sampler(scheduler=name, steps=4) for name in SAMPLERS if name != "PNDMScheduler")
    known = [Plain("a", "x", s, 4, 1.0, 1.0) for s in (one, two, one)]
    found = equal_latency._numbered(known)
    assert [p.name for p in found] == ["plain-4", "plain-4-2", "plain-4"]
    assert [p.label for p in found] == ["plain, 4 steps", "plain, 4 steps (2)", "plain, 4 steps"]


def compared(psnr: tuple[float | None, float | None], ssim: tuple[float, float]) -> str:
    known, seconds = together(rows())
    plain = Plain("cached", "onnxruntime", Sampler(scheduler="x", steps=1), 1, 0.5, 0.7)
    for plan_name, p, s in zip(("cached", PLAIN), psnr, ssim, strict=True):
        key = (plan_name, "onnxruntime")
        known[key] = replace(known[key], psnr=p, ssim=s)
    return comparison(plain, known, seconds).sentence


def test_times_are_those_of_the_rounds_that_both_share() -> None:
    known, seconds = together(rows())
    plain = Plain("cached", "onnxruntime", Sampler(scheduler="x", steps=1), 1, 0.5, 0.7)
    found = comparison(plain, known, seconds)
    assert found.seconds == 2 * known["cached", "onnxruntime"].seconds.median
    assert found.plain_seconds == 2 * known[PLAIN, "onnxruntime"].seconds.median
    assert found.sentence.endswith(f"{found.plain_seconds / found.seconds:.2f} times as long")


def test_the_nearer_picture_is_named_and_a_disagreement_is_said() -> None:
    assert compared((30.0, 20.0), (0.9, 0.8)).startswith("cached is nearer to the full")
    assert compared((None, 20.0), (1.0, 0.8)).startswith("cached is nearer to the full")
    assert compared((20.0, 30.0), (0.8, 0.9)).startswith(f"{PLAIN} is nearer to the full")
    assert compared((20.0, 30.0), (0.9, 0.8)).startswith(
        f"{PLAIN} is nearer to the full plan's picture by PSNR, cached is by SSIM"
    )
    assert compared((30.0, 20.0), (0.8, 0.9)).startswith("cached is nearer")


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("onnxruntime", BuildOptions()),
        ("onnxruntime", BuildOptions(weights="embedded")),
        ("tensorrt-rtx", BuildOptions(compute_capabilities=("8.9", "12.0"), tf32=True)),
        ("tensorrt-rtx", BuildOptions(weights="embedded", weight_streaming=True)),
    ],
)
def test_options_are_read_from_what_a_bundle_says_of_its_engines(
    backend: str, options: BuildOptions
) -> None:
    if backend == "tensorrt-rtx":
        pytest.importorskip("tensorrt_rtx")
    expected = {**vars(options)}
    if backend == "onnxruntime":  # which has no use for the rest
        expected = {**vars(BuildOptions()), "weights": options.weights}
    identity = builder(backend, options).identity()
    assert vars(equal_latency._options([identity])) == expected


def test_engines_are_exported_for_the_backends_that_are_measured() -> None:
    program = plan("x", ["full"])
    stages = {
        name: replace(stage, engines={"onnxruntime": "a", "tensorrt-rtx": "b"})
        for name, stage in program.stages.items()
    }
    kinds = equal_latency._engine_kinds(replace(program, stages=stages), {"onnxruntime"})
    assert kinds == ["onnxruntime"]


def test_calls_are_counted_where_the_size_of_the_picture_shifts_times() -> None:
    name = "FlowMatchEulerDiscreteScheduler"
    config = {"_class_name": name, "use_dynamic_shifting": True}
    assert calls_of(Sampler(scheduler=name, steps=50), config, 4) == 4
