"""Tiny folders of the transformers' families with random weights, as diffusers saves them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from models_for_tests import _text_config, _tokenizer, _vae
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

LATENT = 16  # a side of the latents that a folder is made for; the VAE halves once
T5_WIDTH = 40
T5_LENGTH = 10  # ids a prompt, fewer than the pipelines' own
WIDTH, HEADS = 32, 2
BLOCKS = 3


def write_sd3(folder: Path, *, t5: bool = True, seed: int = 0, **more: object) -> Path:
    """Stable Diffusion 3; more: settings of the transformer, such as those of 3.5."""
    with _seeded(seed):
        clips = [_clip(CLIPTextModelWithProjection, width) for width in (16, 20)]
        settings = {
            "sample_size": LATENT,
            "in_channels": 8,
            "out_channels": 8,
            "num_layers": BLOCKS,
            "num_attention_heads": HEADS,
            "attention_head_dim": WIDTH // HEADS,
            "joint_attention_dim": T5_WIDTH,
            "caption_projection_dim": WIDTH,
            "pooled_projection_dim": 24,
            "pos_embed_max_size": LATENT,
        }
        pipeline = StableDiffusion3Pipeline(
            transformer=SD3Transformer2DModel(**(settings | more)),
            vae=_vae(
                latent_channels=8, shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False
            ),
            text_encoder=clips[0],
            text_encoder_2=clips[1],
            text_encoder_3=_t5() if t5 else None,
            tokenizer=_tokenizer(folder / "tokenizer"),
            tokenizer_2=_tokenizer(folder / "tokenizer_2", pad_token="z</w>"),
            tokenizer_3=_t5_tokenizer() if t5 else None,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
    return _saved(pipeline, folder)


def write_pixart(folder: Path, *, seed: int = 0, alpha: bool = False) -> Path:
    """PixArt-Σ with a learned variance; `alpha`: α, which is told the picture's size."""
    # Of the three sizes, each is embedded in a third of the width.
    with _seeded(seed):
        transformer = PixArtTransformer2DModel(
            # The pipeline tells the size where the transformer is one for 1024².
            sample_size=128 if alpha else LATENT,
            in_channels=4,
            out_channels=8,
            num_layers=BLOCKS,
            num_attention_heads=HEADS,
            attention_head_dim=24,
            cross_attention_dim=24 * HEADS,
            caption_channels=T5_WIDTH,
            use_additional_conditions=alpha,
        )
        pipeline = (PixArtAlphaPipeline if alpha else PixArtSigmaPipeline)(
            transformer=transformer,
            vae=_vae(scaling_factor=0.13),
            text_encoder=_t5(),
            tokenizer=_t5_tokenizer(),
            scheduler=DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02),
        )
    return _saved(pipeline, folder)


def write_flux(folder: Path, *, told: bool = True, seed: int = 0) -> Path:
    """FLUX.1; `told`: whether it is told the guidance scale (dev), or has none (schnell)."""
    with _seeded(seed):
        transformer = FluxTransformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=BLOCKS - 1,
            num_attention_heads=HEADS,
            attention_head_dim=16,
            joint_attention_dim=T5_WIDTH,
            pooled_projection_dim=16,
            guidance_embeds=told,
            axes_dims_rope=(4, 6, 6),
        )
        shift = {"use_dynamic_shifting": True} if told else {"shift": 1.0}
        pipeline = FluxPipeline(
            transformer=transformer,
            vae=_vae(shift_factor=0.12, scaling_factor=0.36, use_post_quant_conv=False),
            text_encoder=_clip(CLIPTextModel, 16),
            text_encoder_2=_t5(),
            tokenizer=_tokenizer(folder / "tokenizer"),
            tokenizer_2=_t5_tokenizer(),
            scheduler=FlowMatchEulerDiscreteScheduler(**shift),
        )
    return _saved(pipeline, folder)


def _saved(pipeline: Any, folder: Path) -> Path:
    pipeline.save_pretrained(folder)
    return folder


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _clip(cls: Any, width: int) -> nn.Module:
    heads = {"hidden_size": width, "num_hidden_layers": 2, "projection_dim": 12}
    made: nn.Module = cls(_text_config(**heads))
    return made


def _t5() -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=len(_pieces()),
            d_model=T5_WIDTH,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_heads=3,
            feed_forward_proj="gated-gelu",
            relative_attention_num_buckets=8,
            relative_attention_max_distance=12,
        )
    )


def _pieces() -> Mapping[str, float]:
    """Letters, and every letter at the beginning of a word."""
    letters = "abcdefghijklmnopqrstuvwxyz,.AR"
    marks = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0}
    return marks | {piece: -2.0 for a in letters for piece in (a, f"▁{a}")}


def _t5_tokenizer() -> T5TokenizerFast:
    made = Tokenizer(models.Unigram([*_pieces().items()], unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return T5TokenizerFast(tokenizer_object=made, extra_ids=0, model_max_length=T5_LENGTH)
