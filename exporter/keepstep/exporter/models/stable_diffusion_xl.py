"""Stable Diffusion XL: two text encoders, and micro-conditioning of the picture's size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from .autoencoder import Autoencoder, LatentScale
from .checkpoint import Checkpoint
from .config_checks import check_text, check_unet, picture_size, prompt_length, text_width
from .family import Family, Model, with_encoders
from .scheduler_config import guidances_of
from .stable_diffusion import NETWORK
from .text import Text, TwoTextEncoders
from .unet import UNet

NAME = "stable-diffusion-xl"
ENCODERS = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
FOLDERS = {"token_ids": "tokenizer", "token_ids_2": "tokenizer_2"}


def load(
    checkpoint: Checkpoint,
    height: int | None,
    width: int | None,
    module: Callable[[Any, str], Any],
) -> Model:
    """The model; its size defaults to what the UNet says."""
    where = checkpoint.name
    unet, vae = module(UNet2DConditionModel, "unet"), module(AutoencoderKL, "vae")
    encoders = {part: module(cls, part) for part, cls in ENCODERS.items()}
    tokenizers = {n: checkpoint.tokenizer(CLIPTokenizer, part) for n, part in FOLDERS.items()}
    text = Text(
        stage=TwoTextEncoders(*encoders.values()),
        encoders=encoders,
        tokenizers=tokenizers,
        folders=FOLDERS,
        lengths=dict.fromkeys(FOLDERS, prompt_length(tokenizers, encoders, where)),
        outputs=("prompt_embeds", "pooled_prompt_embeds"),
        # The default is that of `StableDiffusionXLPipeline`.
        tells_empty=bool(checkpoint.index.get("force_zeros_for_empty_prompt", True)),
    )
    scale = LatentScale.with_statistics(vae.config, f"{where}/vae")
    autoencoder = Autoencoder(vae, scale)
    check_unet(unet.config, vae.config, "text_time", NAME, where)
    unit = autoencoder.factor * 2 ** (len(unet.config.block_out_channels) - 1)
    native: object = unet.config.sample_size
    h, w = picture_size(height, width, native, autoencoder.factor, unit, where)
    check_text(unet.config, text.tokenizers, text.encoders, where)
    # Original height and width, crop top and left, target height and width: an uncropped picture.
    sizes = {"time_ids": tuple(float(size) for size in (h, w, 0, 0, h, w))}
    pooled: Any = encoders["text_encoder_2"].config.projection_dim
    conditions = {
        "prompt_embeds": (
            text.length,
            text_width(unet.config.cross_attention_dim, f"{where}/unet"),
        ),
        "pooled_prompt_embeds": (int(pooled),),
        "time_ids": (len(sizes["time_ids"]),),
    }
    return Model(
        family=NAME,
        checkpoint=checkpoint,
        denoiser=UNet(unet, conditions),
        text=text,
        autoencoder=autoencoder,
        height=h,
        width=w,
        guidances=guidances_of(checkpoint),
        sizes=sizes,
        guidance_scale=5.0,
    )


FAMILY = Family(NAME, NETWORK, with_encoders(ENCODERS), load)
