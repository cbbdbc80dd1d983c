"""Stable Diffusion 1 and 2: a CLIP text encoder, a UNet, an AutoencoderKL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from packaging import version
from transformers import CLIPTextModel

from .autoencoder import Autoencoder, LatentScale
from .checkpoint import Checkpoint
from .config_checks import check_text, check_unet, picture_size, text_width
from .family import Family, Model, with_encoders
from .scheduler_config import guidances_of
from .text import clip_text
from .unet import UNet

NAME = "stable-diffusion"
NETWORK = ("unet", "UNet2DConditionModel")
# Settings that `StableDiffusionPipeline` mends when it is made.
MENDS: Mapping[str, object] = {"steps_offset": 1, "clip_sample": False}


def load(
    checkpoint: Checkpoint,
    height: int | None,
    width: int | None,
    module: Callable[[Any, str], Any],
) -> Model:
    """The model; its size defaults to what the UNet was trained for."""
    where = checkpoint.name
    unet, vae = module(UNet2DConditionModel, "unet"), module(AutoencoderKL, "vae")
    autoencoder = Autoencoder(vae, LatentScale(float(vae.config.scaling_factor)))
    text = clip_text(checkpoint, module)
    check_unet(unet.config, vae.config, None, NAME, where)
    unit = autoencoder.factor * 2 ** (len(unet.config.block_out_channels) - 1)
    size = picture_size(height, width, _native_size(unet), autoencoder.factor, unit, where)
    check_text(unet.config, text.tokenizers, text.encoders, where)
    width_of_text = text_width(unet.config.cross_attention_dim, f"{where}/unet")
    return Model(
        family=NAME,
        checkpoint=checkpoint,
        denoiser=UNet(unet, {"prompt_embeds": (text.length, width_of_text)}),
        text=text,
        autoencoder=autoencoder,
        height=size[0],
        width=size[1],
        guidances=guidances_of(checkpoint),
        mends=MENDS,
    )


def _native_size(unet: UNet2DConditionModel) -> object:
    """The latent's side, or its height and width, for which the UNet was trained.

    Configs from before diffusers 0.9 may say 32 of a UNet that was trained for 64;
    `StableDiffusionPipeline` does not believe them.
    """
    size: object = unet.config.sample_size
    try:
        written = version.parse(unet.config.get("_diffusers_version", "1"))
    except (version.InvalidVersion, TypeError):
        return size  # not diffusers' own
    old = written < version.parse("0.9.0.dev0")
    return 64 if old and isinstance(size, int) and size < 64 else size


FAMILY = Family(NAME, NETWORK, with_encoders({"text_encoder": CLIPTextModel}), load, MENDS)
