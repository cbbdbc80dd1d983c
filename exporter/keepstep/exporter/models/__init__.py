"""Adapters from diffusers checkpoints to what the compiler needs, one file a family."""

from __future__ import annotations

from .stable_diffusion import StableDiffusion

__all__ = ["StableDiffusion", "load"]


def load(model: str, height: int | None = None, width: int | None = None) -> StableDiffusion:
    """Load a diffusers folder or hub id; raises `ModelError` if no adapter fits."""
    return StableDiffusion.load(model, height, width)
