"""Tiny Stable Diffusion folders with random weights, as diffusers saves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

LATENT = 16  # the latents that a folder's UNet claims to be trained for
PICTURE = 2 * LATENT  # the VAE halves once
PROMPT_LENGTH = 8
TEXT_WIDTH = 16
TEXT_WIDTH_2 = 20
POOLED_WIDTH = 12
SIZE_WIDTH = 4  # features of each number that says a size


def write_model(
    folder: Path,
    *,
    top_attention: bool = True,
    layers: int = 1,
    levels: int = 3,
    linear: bool = False,
    prediction_type: str = "epsilon",
    seed: int = 0,
    statistics: Mapping[str, object] | None = None,
    unet: Mapping[str, object] = {},
) -> Path:
    """Save a pipeline to `folder`, with the same weights for the same arguments.

    top_attention   whether the level at the latent's own resolution has transformer blocks; the
                    level below has them if not
    layers          resnets (and transformer blocks) a level on the way down
    levels          of the UNet, 2 or 3: two are exported in half of the time
    linear          whether transformer blocks project by linear layers, as in Stable Diffusion 2
    unet            more settings of the UNet
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionPipeline(
            unet=_unet(top_attention, layers, levels, use_linear_projection=linear, **unet),
            vae=_vae(**(statistics or {})),
            tokenizer=_tokenizer(folder / "tokenizer"),
            text_encoder=CLIPTextModel(_text_config()),
            scheduler=_scheduler(prediction_type),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder)
    return folder


def write_xl_model(
    folder: Path,
    *,
    seed: int = 0,
    zeros_for_empty: bool = True,
    statistics: Mapping[str, object] | None = None,
) -> Path:
    """Save a pipeline with what is particular about Stable Diffusion XL to `folder`.

    zeros_for_empty   what no negative prompt means: zeros, or the embedding of an empty one
    statistics        `latents_mean` and `latents_std` of the VAE, as Playground v2.5 has them

    Two text encoders of different widths, a network that is told the picture's size and has no
    attention at the latent's own resolution, and a VAE that is to stay in float32.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionXLPipeline(
            unet=_unet(
                top_attention=False,
                layers=1,
                levels=2,
                use_linear_projection=True,
                cross_attention_dim=TEXT_WIDTH + TEXT_WIDTH_2,
                addition_embed_type="text_time",
                addition_time_embed_dim=SIZE_WIDTH,
                projection_class_embeddings_input_dim=POOLED_WIDTH + 6 * SIZE_WIDTH,
            ),
            vae=_vae(force_upcast=True, **(statistics or {})),
            tokenizer=_tokenizer(folder / "tokenizer"),
            tokenizer_2=_tokenizer(folder / "tokenizer_2", pad_token="z</w>"),
            text_encoder=CLIPTextModel(_text_config(num_hidden_layers=2)),
            text_encoder_2=CLIPTextModelWithProjection(
                _text_config(
                    num_hidden_layers=3,
                    hidden_size=TEXT_WIDTH_2,
                    projection_dim=POOLED_WIDTH,
                    hidden_act="gelu",
                )
            ),
            scheduler=EulerDiscreteScheduler.from_config(_scheduler("epsilon").config),
            force_zeros_for_empty_prompt=zeros_for_empty,
        )
    pipeline.save_pretrained(folder)
    return folder


def _unet(top_attention: bool, layers: int, levels: int, **more: object) -> UNet2DConditionModel:
    # The mid block attends in any case; few transformer blocks are traced faster.
    top, below = ("CrossAttn", "") if top_attention else ("", "CrossAttn")
    blocks = (f"{top}DownBlock2D", f"{below}DownBlock2D", "DownBlock2D")[:levels]
    settings = {
        "sample_size": LATENT,
        "block_out_channels": (16, 24, 24)[:levels],
        "layers_per_block": layers,
        "cross_attention_dim": TEXT_WIDTH,
        "attention_head_dim": (2, 3, 3)[:levels],  # for this class: the number of heads
        "norm_num_groups": 8,
        "down_block_types": blocks,
        "up_block_types": tuple(name.replace("Down", "Up") for name in reversed(blocks)),
    }
    unet = UNet2DConditionModel(**(settings | more))
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            # Fresh weights give an almost uniform attention, where any token is as good as another.
            if name.endswith(("attn1.to_q.weight", "attn1.to_k.weight", "attn1.to_v.weight")):
                weight *= 4
    return unet


def _vae(*, latent_channels: int = 4, force_upcast: bool = False, **more: object) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=latent_channels,
        mid_block_add_attention=False,
        sample_size=PICTURE,
        force_upcast=force_upcast,
        **more,
    )


def _text_config(**more: object) -> CLIPTextConfig:
    settings = {
        "vocab_size": len(_vocabulary()),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": PROMPT_LENGTH,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    return CLIPTextConfig(**(settings | more))


def _vocabulary() -> dict[str, int]:
    """Letters, alone and at the end of a word: without merges every letter is a token."""
    tokens = ["<|startoftext|>", "<|endoftext|>"]
    for letter in "abcdefghijklmnopqrstuvwxyz":
        tokens += [letter, f"{letter}</w>"]
    return {token: i for i, token in enumerate(tokens)}


def _tokenizer(folder: Path, **more: str) -> CLIPTokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(_vocabulary()), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    files = (str(folder / "vocab.json"), str(folder / "merges.txt"))
    return CLIPTokenizer(*files, model_max_length=PROMPT_LENGTH, **more)


def _scheduler(prediction_type: str) -> PNDMScheduler:
    return PNDMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        skip_prk_steps=True,
        steps_offset=1,
        set_alpha_to_one=False,
        prediction_type=prediction_type,
    )
