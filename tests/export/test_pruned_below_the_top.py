"""A model like SDXL, without attention at the latent's own resolution, from schedule to plan."""

from __future__ import annotations

from pathlib import Path

from exporter.played import schedule
from models_for_tests import write_model

from keepstep.exporter import export
from keepstep.exporter.check.verify import verify


def test_full_calls_prune_where_the_model_attends_and_shallow_calls_take_no_scores(
    tmp_path: Path,
) -> None:
    folder = write_model(tmp_path / "model", top_attention=False)
    written = schedule("FFs.F", "branch: 0", "ratio: 0.5, alpha: 0.5")
    bundle = export(folder, [written], tmp_path / "bundle")
    plan = bundle.plan("test")
    full, shallow = plan.stages["full-dato0.5"], plan.stages["shallow"]
    tokens = 8 * 8  # of latents of 16 × 16
    assert full.inputs["selection_noise"].shape == (1, 1, tokens)
    assert plan.values["selection_noise"].type.shape == (4, 1, tokens), "a row a call that runs"
    assert not {"score_weights", "selection_noise"} & set(shallow.inputs)
    assert [step.kept for step in plan.steps] == [tokens // 2, tokens // 2, None, None, tokens // 2]
    assert verify(bundle, "test").good
