"""Adapters from diffusers checkpoints to what the compiler needs, one file a family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ModelError
from ..folder.model_folder import ModelFolder, find_folder
from .checkpoint import Checkpoint
from .scheduler_config import scheduler_config
from .stable_diffusion import StableDiffusion, of_guidance
from .stable_diffusion_xl import StableDiffusionXL

__all__ = [
    "Checkpoint",
    "StableDiffusion",
    "StableDiffusionXL",
    "load",
    "of_guidance",
    "scheduler_config_of",
]

FAMILIES = (StableDiffusion, StableDiffusionXL)


def load(
    model: str | ModelFolder,
    height: int | None = None,
    width: int | None = None,
    *,
    weights: bool = True,
) -> StableDiffusion:
    """The model of a diffusers folder or hub id at one picture size (pixels).

    Its modules have their weights in float32, to be run; or none (`weights=False`), to be traced.
    Raises `ModelError` if no adapter fits.
    """
    checkpoint = _checkpoint(model)
    return _family(checkpoint).from_checkpoint(checkpoint, height, width, weights)


def scheduler_config_of(model: str | ModelFolder) -> Mapping[str, Any]:
    """The settings of the model's scheduler, without making its modules; raises `ModelError`."""
    checkpoint = _checkpoint(model)
    return scheduler_config(checkpoint, _family(checkpoint).SCHEDULER)


def _checkpoint(model: str | ModelFolder) -> Checkpoint:
    return Checkpoint(model if isinstance(model, ModelFolder) else find_folder(model))


def _family(checkpoint: Checkpoint) -> type[StableDiffusion]:
    index = checkpoint.index
    for family in FAMILIES:
        if family.fits(index):
            return family
    raise ModelError(
        f"{checkpoint.name}: a {index.get('_class_name')}; this version exports the folders of "
        "StableDiffusionPipeline and StableDiffusionXLPipeline"
    )
