"""Which backends are measured, and what every run is given."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from exporter.bench_reports import plan

from keepstep.bench import configurations
from keepstep.bench.configurations import backends_for
from keepstep.playing.conditioning import grey, noises
from keepstep.runtime import BackendError
from keepstep.runtime.format.plan import TensorType


def bundle(*engines: str) -> Any:
    """A bundle whose stages have these engines."""
    program = plan("full", ["full"])
    stages = {
        name: replace(stage, engines=dict.fromkeys(engines, "file"))
        for name, stage in program.stages.items()
    }
    return SimpleNamespace(plan=lambda name: replace(program, stages=stages))


def test_all_backends_that_play_the_plan_are_measured_unless_some_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(configurations, "playable", lambda program: ("a", "b"))
    assert backends_for(bundle("a"), "full") == ("a", "b")
    assert backends_for(bundle("a"), "full", ("b",)) == ("b",)
    assert backends_for(bundle("a"), "full", ("b", "a", "b")) == ("b", "a")


def test_where_nothing_can_be_played_the_reason_of_the_bundles_engines_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def backend(name: str) -> None:
        raise BackendError(f"backend {name!r} needs something else")

    monkeypatch.setattr(configurations, "playable", lambda program: ())
    monkeypatch.setattr(configurations, "backend", backend)
    with pytest.raises(BackendError, match="'tensorrt-rtx' needs something else"):
        backends_for(bundle("tensorrt-rtx"), "full")


def test_a_backend_that_runs_here_without_engines_of_the_bundle_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(configurations, "backend", lambda name: None)
    with pytest.raises(BackendError, match="has engines for 'tensorrt-rtx'") as refused:
        backends_for(bundle("tensorrt-rtx"), "full", ("null",))
    assert "'null' plays nothing of plan 'full'" in str(refused.value)


def test_noises_are_those_that_a_plan_takes_and_no_two_alike() -> None:
    both = TensorType("float32", (1, 4, 8, 8))
    found = noises({"noise": both, "selection_noise": both, "token_ids": both}, 3)
    assert found.keys() == {"noise", "selection_noise"}
    assert not np.array_equal(found["noise"], found["selection_noise"])
    again = noises({"noise": both}, 3)
    assert np.array_equal(again["noise"], found["noise"])
    assert not np.array_equal(noises({"noise": both}, 5)["noise"], found["noise"])


def test_a_grey_picture_is_given_where_a_plan_starts_from_one() -> None:
    picture = grey({"init_image": TensorType("uint8", (2, 8, 8, 3))})["init_image"]
    assert (picture.dtype, picture.shape, picture.min()) == (np.uint8, (2, 8, 8, 3), picture.max())
    assert grey({}) == {}
