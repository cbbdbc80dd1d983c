"""A full plan gives what diffusers' own pipeline gives, for every kind of scheduler."""

from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from exports_for_tests import SAMPLERS

from keepstep.runtime import Bundle

GUIDANCE_SCALE = 4.0
PROMPT = "a red apple"

# Float32 rounding over a few calls, plus 1e-7 in the coefficients of schedulers that compute
# in float32 themselves; the project's bar.
TOLERANCE = 1e-4


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_full_plan_equals_the_pipeline_of_diffusers(
    name: str, samplers_bundle: Bundle, tiny_folder: Path
) -> None:
    noise = np.random.default_rng(3).standard_normal((1, 4, 16, 16), dtype=np.float32)
    with samplers_bundle.player(name) as player:
        ours = player.run(
            {**player.encode(PROMPT), "noise": noise, "guidance_scale": GUIDANCE_SCALE}
        )
    theirs = _pipeline(name, tiny_folder, noise)
    difference = np.linalg.norm(ours["latents"] - theirs) / np.linalg.norm(theirs)
    assert difference <= TOLERANCE


def _pipeline(name: str, folder: Path, noise: np.ndarray) -> np.ndarray:
    """Latents of StableDiffusionPipeline from the same start noise."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    settings = dict(SAMPLERS[name])
    cls, steps = getattr(diffusers, str(settings.pop("scheduler"))), settings.pop("steps")
    pipeline.scheduler = cls.from_config(pipeline.scheduler.config, **settings)
    result = pipeline(
        PROMPT,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE_SCALE,
        latents=torch.from_numpy(noise),
        output_type="latent",
    )
    return np.asarray(result.images)
