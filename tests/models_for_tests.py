"""Tiny Stable Diffusion folders with random weights, as diffusers saves them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

LATENT = 16  # the latents that a folder's UNet claims to be trained for
PICTURE = 2 * LATENT  # the VAE halves once
PROMPT_LENGTH = 8
TEXT_WIDTH = 16


def write_model(
    folder: Path,
    *,
    top_attention: bool = True,
    layers: int = 1,
    prediction_type: str = "epsilon",
    seed: int = 0,
) -> Path:
    """Save a pipeline to `folder`: three UNet levels, the same weights for the same arguments.

    top_attention   whether the level at the latent's own resolution has transformer blocks; the
                    level below has them if not
    layers          resnets (and transformer blocks) a level on the way down
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionPipeline(
            unet=_unet(top_attention, layers),
            vae=_vae(),
            tokenizer=_tokenizer(folder / "tokenizer"),
            text_encoder=_text_encoder(),
            scheduler=_scheduler(prediction_type),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder)
    return folder


def _unet(top_attention: bool, layers: int) -> UNet2DConditionModel:
    # The mid block attends in any case; few transformer blocks are traced faster.
    top, below = ("CrossAttn", "") if top_attention else ("", "CrossAttn")
    unet = UNet2DConditionModel(
        sample_size=LATENT,
        block_out_channels=(16, 24, 24),
        layers_per_block=layers,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=(2, 3, 3),  # for this class: the number of heads
        norm_num_groups=8,
        down_block_types=(f"{top}DownBlock2D", f"{below}DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", f"{below}UpBlock2D", f"{top}UpBlock2D"),
    )
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            # Fresh weights give an almost uniform attention, where any token is as good as another.
            if name.endswith(("attn1.to_q.weight", "attn1.to_k.weight", "attn1.to_v.weight")):
                weight *= 4
    return unet


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        mid_block_add_attention=False,
        sample_size=PICTURE,
    )


def _text_encoder() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(_vocabulary()),
            hidden_size=TEXT_WIDTH,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=PROMPT_LENGTH,
            bos_token_id=0,
            eos_token_id=1,
        )
    )


def _vocabulary() -> dict[str, int]:
    """Letters, alone and at the end of a word: without merges every letter is a token."""
    tokens = ["<|startoftext|>", "<|endoftext|>"]
    for letter in "abcdefghijklmnopqrstuvwxyz":
        tokens += [letter, f"{letter}</w>"]
    return {token: i for i, token in enumerate(tokens)}


def _tokenizer(folder: Path) -> CLIPTokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(_vocabulary()), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=PROMPT_LENGTH
    )


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
