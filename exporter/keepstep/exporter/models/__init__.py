"""Adapters from diffusers checkpoints to what the compiler needs, one file a family."""

from __future__ import annotations

from ..errors import ModelError
from .checkpoint import Checkpoint
from .stable_diffusion import StableDiffusion, of_guidance
from .stable_diffusion_xl import StableDiffusionXL

__all__ = ["Checkpoint", "StableDiffusion", "StableDiffusionXL", "load", "of_guidance"]

FAMILIES = (StableDiffusion, StableDiffusionXL)


def load(
    model: str, height: int | None = None, width: int | None = None, *, weights: bool = True
) -> StableDiffusion:
    """The model of a diffusers folder or hub id at one picture size (pixels).

    Its modules have their weights in float32, to be run; or none (`weights=False`), to be traced.
    Raises `ModelError` if no adapter fits.
    """
    checkpoint = Checkpoint.find(model)
    index = checkpoint.index
    for family in FAMILIES:
        if family.fits(index):
            return family.from_checkpoint(checkpoint, height, width, weights)
    raise ModelError(
        f"{model}: a {index.get('_class_name')}; this version exports the folders of "
        "StableDiffusionPipeline and StableDiffusionXLPipeline"
    )
