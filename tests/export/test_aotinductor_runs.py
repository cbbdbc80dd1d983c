"""AOTInductor on a CPU: whole runs are those of ONNX Runtime, from the same bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from exports_for_tests import EMOJI

from keepstep.exporter import export
from keepstep.exporter.check.verify import recorded_inputs, verify
from keepstep.exporter.engines import aotinductor
from keepstep.exporter.schedule.schema import parse
from keepstep.runtime import Bundle
from keepstep.runtime.backends import playable

pytestmark = pytest.mark.long  # a C++ compiler takes ten seconds and more for each stage

TEXT = """
keepstep: 1
name: pruned
sampler: {scheduler: PNDMScheduler, steps: 4}
cache: {branch: 0}
prune: {method: dato, ratio: 0.4, patch: 2}
calls: "Fs.s."
"""
PRUNED = parse(TEXT)
MORE = parse(TEXT.replace("pruned", "more").replace("Fs.s.", "Fsss."))


@pytest.fixture(scope="module")
def bundle(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A pruned and cached schedule: text, prompt, full, shallow and decode for both backends."""
    out = tmp_path_factory.mktemp("aotinductor") / "bundle"
    return export(tiny_folder, [PRUNED], out, backends=["onnxruntime", "aotinductor"])


def played(bundle: Bundle, backend: str, **more: object) -> Mapping[str, np.ndarray]:
    inputs = recorded_inputs(bundle.golden("pruned"))
    with bundle.player("pruned", backend, **more) as player:  # type: ignore[arg-type]
        first = player.run(inputs)
        again = player.run(inputs)
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    return first


def test_a_whole_run_is_that_of_onnx_runtime(bundle: Bundle) -> None:
    assert {"onnxruntime", "aotinductor"} <= set(playable(bundle.plan("pruned")))
    expected, found = played(bundle, "onnxruntime"), played(bundle, "aotinductor")
    error = np.linalg.norm(found["latents"] - expected["latents"])
    assert error <= 1e-5 * np.linalg.norm(expected["latents"])
    # Rounding to whole numbers may fall to the other side.
    assert np.abs(found["image"].astype(int) - expected["image"].astype(int)).max() <= 1


def test_every_stage_is_what_the_eager_run_gave(bundle: Bundle) -> None:
    verdict = verify(bundle, "pruned", "aotinductor")
    assert verdict.good, verdict.sentence
    assert {stage.stage for stage in verdict.stages} == set(bundle.plan("pruned").stages)


def test_threads_are_the_players_own(bundle: Bundle) -> None:
    before = torch.get_num_threads()
    played(bundle, "aotinductor", threads=1)
    assert torch.get_num_threads() == before


def test_a_second_export_compiles_nothing(
    bundle: Bundle, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aotinductor.subprocess, "run", None)
    again = export(tiny_folder, [MORE], tmp_path / "b", ["aotinductor"])
    files = {stage.engines["aotinductor"] for stage in again.plan("more").stages.values()}
    assert files == {s.engines["aotinductor"] for s in bundle.plan("pruned").stages.values()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_trained_model_in_every_dtype(dtype: str, tmp_path: Path) -> None:
    """Also in bfloat16, in which ONNX Runtime computes nothing on a CPU."""
    made = export(
        EMOJI, ["full", "dato-coco"], tmp_path / "emoji", ["aotinductor"], dtype=dtype, verify="run"
    )
    for plan in made.plans:
        verdict = verify(made, plan, "aotinductor")
        assert verdict.good, verdict.sentence
