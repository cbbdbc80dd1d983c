"""Gains, ideals and likeness, from runs that are written down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from exporter.bench_reports import (
    CACHED,
    COMPILED,
    EAGER,
    FULL,
    MACS,
    PLAIN,
    StillConfiguration,
    measured,
    picture,
    plan,
    rows,
    run,
)

from keepstep.bench.measure import Measured
from keepstep.bench.rows import Baseline, Gains, Row, row_of
from keepstep.bench.similarity import similarity


def seconds(kinds: list[str], times: dict[str, float]) -> float:
    return sum(times[kind] for kind in ("text", "decode", *kinds))


def known() -> dict[tuple[str, str], Row]:
    return {(row.plan, row.how): row for row in rows()}


def test_what_the_schedule_gives_and_what_compiling_gives_are_apart() -> None:
    eager_full, eager = seconds(FULL, EAGER), seconds(CACHED, EAGER)
    full = seconds(FULL, COMPILED)
    cached = seconds([kind for kind in CACHED if kind != "skip"], COMPILED)
    found = known()
    expected = {
        ("full", "eager"): (1, 1, 1),
        ("full", "onnxruntime"): (1, eager_full / full, eager_full / full),
        ("cached", "eager"): (eager_full / eager, 1, eager_full / eager),
        ("cached", "onnxruntime"): (full / cached, eager / cached, eager_full / cached),
    }
    for key, gains in expected.items():
        row = found[key].gains
        assert (row.schedule, row.compiling, row.total) == pytest.approx(gains)


def test_either_way_from_eager_full_to_compiled_schedule_is_the_total() -> None:
    found = known()
    last = found["cached", "onnxruntime"].gains
    for schedule, compiling in (
        (found["cached", "eager"].gains.schedule, last.compiling),
        (last.schedule, found["full", "onnxruntime"].gains.compiling),
    ):
        assert schedule and compiling
        assert schedule * compiling == pytest.approx(last.total)


def test_without_eager_runs_the_total_is_that_of_the_schedule() -> None:
    compiled = [m for m in measured() if m.configuration.model is None]
    baseline = Baseline.of(compiled, "full")
    gains = row_of(compiled[1], baseline, None).gains
    assert gains == Gains(gains.schedule, None, gains.schedule)


def test_plain_steps_have_no_eager_run_of_their_own() -> None:
    gains = known()[PLAIN, "onnxruntime"].gains
    assert gains.compiling is None
    assert gains.total == pytest.approx(seconds(FULL, EAGER) / seconds(FULL[:1], COMPILED))


def test_the_ideal_is_the_share_of_operations_of_the_full_loop_run_the_same_way() -> None:
    for how, times in (("eager", EAGER), ("onnxruntime", COMPILED)):
        row = known()["cached", how]
        share = (MACS["full"] + 2 * MACS["shallow"]) / (4 * MACS["full"])
        assert row.loop_macs == share * known()["full", how].loop_macs
        assert row.ideal_seconds == pytest.approx(4 * times["full"] * share)
        assert row.measured_over_ideal == pytest.approx(row.loop_seconds.median / row.ideal_seconds)


def test_launches_are_those_of_engines() -> None:
    assert known()["cached", "onnxruntime"].launches == 5  # text, three of the network, decode
    assert known()["cached", "eager"].launches is None
    assert known()["cached", "eager"].calls == {"full": 1, "shallow": 2, "skip": 1}


def test_pictures_are_held_against_that_of_the_compiled_full_plan() -> None:
    found = known()
    assert found["full", "onnxruntime"].psnr is None
    near, far = found["full", "eager"].psnr, found["cached", "eager"].psnr
    assert near and far
    assert near > far
    assert found["cached", "eager"].psnr == found["cached", "onnxruntime"].psnr


def test_a_plan_of_another_bundle_has_the_operations_of_its_own() -> None:
    both = measured()
    other = StillConfiguration(
        plan("full", FULL * 3), "onnxruntime", [run(FULL, COMPILED, picture(0))]
    )
    found = row_of(Measured(other, other.runs), Baseline.of(both, "full"), None)
    assert found.loop_macs == 3 * known()["full", "onnxruntime"].loop_macs


def test_memory_is_what_was_measured() -> None:
    first = measured()[1]
    run_on_a_gpu = replace(first.runs[0], device_bytes=123)
    found = row_of(
        Measured(first.configuration, [run_on_a_gpu]), Baseline.of(measured(), "full"), 456
    )
    assert (found.device_bytes, found.peak_bytes) == (123, 456)


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
