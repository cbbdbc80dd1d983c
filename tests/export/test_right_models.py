"""Right bundles are written by a default export, whatever ties their selections hang on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export import faulty
from export.faulty import PLAN
from exports_for_tests import BUILT_IN
from models_for_tests import LATENT, write_model, write_xl_model

from keepstep.exporter import compilation, export
from keepstep.exporter.check.golden import golden_inputs
from keepstep.exporter.check.verify import ONE_CALL, verify
from keepstep.exporter.store.cache import Cache

MODELS: dict[str, Callable[[Path, int], Path]] = {
    "sd1": lambda folder, seed: write_model(folder, seed=seed),
    "sd1 of two layers": lambda folder, seed: write_model(folder, seed=seed, layers=2),
    "sd2": lambda folder, seed: write_model(
        folder, seed=seed, linear=True, prediction_type="v_prediction"
    ),
    "sdxl": lambda folder, seed: write_xl_model(folder, seed=seed),
}
QUICK = [("sdxl", 1)]  # the others take minutes together


@pytest.mark.parametrize(
    ("kind", "seed"),
    [
        pytest.param(kind, seed, marks=[] if (kind, seed) in QUICK else [pytest.mark.long])
        for kind in MODELS
        for seed in range(3)
    ],
)
def test_every_built_in_schedule_of_a_right_model_is_exported(
    kind: str, seed: int, tmp_path: Path
) -> None:
    folder = MODELS[kind](tmp_path / "model", seed)
    schedules = [*BUILT_IN, "sdxl-dato"] if kind == "sdxl" else BUILT_IN
    bundle = export(folder, schedules, tmp_path / "bundle")
    assert bundle.plans == tuple(schedules)
    for plan in schedules:
        verdict = verify(bundle, plan)  # as on another machine, without the model
        assert verdict.good, verdict.sentence


@pytest.mark.long  # nothing may come from the cache
def test_a_run_full_of_ties_is_held_tightly_though_rounding_selects(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start noise that repeats itself makes tokens alike: which of them is kept is rounding."""

    def repeating(*arguments: Any) -> dict[str, np.ndarray]:
        inputs = golden_inputs(*arguments)
        inputs["noise"] = np.tile(inputs["noise"][..., :4, :4], (LATENT // 4, LATENT // 4))
        return inputs

    monkeypatch.setattr(compilation, "golden_inputs", repeating)
    cache = Cache(tmp_path / "cache")
    bundle = export(small_folder, [faulty.schedule()], tmp_path / "bundle", cache=cache)
    verdict = verify(bundle, PLAN, model=faulty.eager_calls(small_folder, bundle))
    assert verdict.good, verdict.sentence
    assert sum(call.undecided for call in verdict.calls) > 0, "nothing hangs on rounding here"
    assert all(call.tolerance == ONE_CALL["float32"] for call in verdict.calls)
