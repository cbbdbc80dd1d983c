"""The scheduler of a checkpoint is the one that its pipeline has, old configs mended and all."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
from models_for_tests import write_model

from keepstep.exporter import models
from keepstep.exporter.folder.model_folder import PLAIN, ModelFolder
from keepstep.exporter.models import Checkpoint, stable_diffusion, stable_diffusion_xl
from keepstep.exporter.models.scheduler_config import scheduler_config
from keepstep.exporter.schedule.sampler import lower
from keepstep.exporter.schedule.scheduler import scheduler_from
from keepstep.exporter.schedule.settings import Sampler

STEPS = 6
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "pndm, nothing said": ("PNDMScheduler", {"skip_prk_steps": True}),
    "pndm, offset 0": ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 0}),
    "pndm, offset 1": ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}),
    "ddim, nothing said": ("DDIMScheduler", {}),
    "ddim, clips": ("DDIMScheduler", {"clip_sample": True, "steps_offset": 0}),
    "euler": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "lms, offset 0": ("LMSDiscreteScheduler", {"steps_offset": 0}),
}
RUN = ["PNDMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler"]


def checkpoint(folder: Path, name: str, settings: dict[str, Any]) -> Checkpoint:
    (folder / "scheduler").mkdir(parents=True)
    config = {"_class_name": name, "_diffusers_version": "0.42.1", **BETAS, **settings}
    texts = {
        "scheduler/scheduler_config.json": json.dumps(config).encode(),
        "model_index.json": json.dumps({"scheduler": ["diffusers", name]}).encode(),
    }
    for path, text in texts.items():
        (folder / path).write_bytes(text)
    return Checkpoint(ModelFolder(folder, "model", texts, {}, PLAIN))


def of_pipeline(folder: Path, name: str, run: str, overrides: dict[str, Any]) -> Any:
    """What a user of diffusers runs: the pipeline's scheduler, or another made of its config."""
    own = getattr(diffusers, name).from_pretrained(folder, subfolder="scheduler")
    nothing = dict.fromkeys(
        ("vae", "text_encoder", "tokenizer", "unet", "safety_checker", "feature_extractor")
    )
    pipeline = diffusers.StableDiffusionPipeline(
        **nothing, scheduler=own, requires_safety_checker=False
    )
    if run == name and not overrides:
        return pipeline.scheduler
    return getattr(diffusers, run).from_config(pipeline.scheduler.config, **overrides)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # what the pipeline says of old configs
@pytest.mark.parametrize("run", RUN)
@pytest.mark.parametrize("written", WRITTEN)
def test_a_schedule_runs_the_scheduler_that_the_pipeline_would(
    written: str, run: str, tmp_path: Path
) -> None:
    name, settings = WRITTEN[written]
    # DDIM clips by default, which no fixed coefficients can do; its own config is left alone.
    overrides = {"clip_sample": False} if run == "DDIMScheduler" != name else {}
    config = scheduler_config(checkpoint(tmp_path, name, settings), stable_diffusion.MENDS)
    ours = lower(scheduler_from(config, Sampler(scheduler=run, steps=STEPS, **overrides)), STEPS)
    theirs = lower(of_pipeline(tmp_path, name, run, overrides), STEPS)
    assert ours.timesteps == theirs.timesteps
    np.testing.assert_array_equal(ours.inputs, theirs.inputs)
    np.testing.assert_array_equal(ours.result, theirs.result)


def test_sdxl_believes_what_the_config_says(tmp_path: Path) -> None:
    given = checkpoint(tmp_path, "PNDMScheduler", {"steps_offset": 0})
    assert scheduler_config(given, stable_diffusion_xl.FAMILY.mends)["steps_offset"] == 0


@pytest.mark.parametrize(("version", "side"), [("0.8.1", 64), ("0.9.0", 16)])
def test_a_size_from_before_diffusers_0_9_is_not_believed(
    version: str, side: int, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", levels=2)
    file = folder / "unet/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"_diffusers_version": version}))
    model = models.load(str(folder), weights=False)
    with pytest.warns(FutureWarning) if side == 64 else nullcontext():
        pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    assert model.latent_shape == (4, side, side)
    assert pipeline.unet.config.sample_size == side
