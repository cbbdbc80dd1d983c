"""Latents that diffusers' own pipelines draw, and those of a bundle, from the same start noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from exports_for_tests import SAMPLERS

from keepstep.runtime import Bundle

GUIDANCE_SCALE = 4.0
PROMPT = "a red apple"


def noise() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((1, 4, 16, 16), dtype=np.float32)


def played(
    bundle: Bundle,
    plan: str,
    *,
    prompt: str = PROMPT,
    negative_prompt: str | None = None,
    guidance_scale: float = GUIDANCE_SCALE,
    **more: np.ndarray,
) -> dict[str, np.ndarray]:
    """Outputs of a plan; `more` inputs take the place of those of the prompt."""
    with bundle.player(plan, threads=1) as player:
        told = {**player.encode(prompt, negative_prompt), "noise": noise()}
        if "guidance_scale" in player.inputs:
            told["guidance_scale"] = np.float32(guidance_scale)
        return player.run(told | more)


def pipeline(folder: Path, sampler: str, image: bool = False) -> tuple[Any, int]:
    """The pipeline in `folder` with one of `SAMPLERS`, and that one's steps; img2img's if asked."""
    kind = diffusers.AutoPipelineForImage2Image if image else diffusers.DiffusionPipeline
    found = kind.from_pretrained(folder)
    found.set_progress_bar_config(disable=True)
    settings = dict(SAMPLERS[sampler])
    cls, steps = getattr(diffusers, str(settings.pop("scheduler"))), settings.pop("steps")
    found.scheduler = cls.from_config(found.scheduler.config, **settings)
    return found, int(str(steps))


def drawn(
    folder: Path, sampler: str, lora: tuple[Path, float] | None = None, **how: Any
) -> np.ndarray:
    """Latents of the pipeline in `folder` with one of `SAMPLERS`; `how` goes to its call.

    lora   a file and its scale
    """
    found, steps = pipeline(folder, sampler)
    if lora:
        path, scale = lora
        found.load_lora_weights(path.parent, weight_name=path.name, adapter_name="style")
        found.set_adapters(["style"], [scale])
    usual = {"prompt": PROMPT, "guidance_scale": GUIDANCE_SCALE, "output_type": "latent"}
    result = found(**usual | how, num_inference_steps=steps, latents=torch.from_numpy(noise()))
    return np.asarray(result.images)


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Norm of the difference, relative to what is expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
