"""The trained parts of the model, freshly made, in the configurations that are exported."""

from __future__ import annotations

import torch
from diffusers import DPMSolverMultistepScheduler, PixArtTransformer2DModel
from torch import nn
from transformers import T5Config, T5EncoderModel, T5TokenizerFast

from recipe.settings import (
    FLOW_SHIFT,
    LATENT_CHANNELS,
    LATENT_SIZE,
    TEXT_WIDTH,
    TextEncoderSettings,
    TransformerSettings,
)


def make_text_encoder(settings: TextEncoderSettings, tokenizer: T5TokenizerFast) -> T5EncoderModel:
    """(B, 24) token ids to (B, 24, 128)."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=TEXT_WIDTH,
            d_kv=TEXT_WIDTH // settings.heads,
            d_ff=settings.inner,
            num_layers=settings.layers,
            num_heads=settings.heads,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",  # as T5 1.1, which PixArt uses
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def make_transformer(settings: TransformerSettings) -> PixArtTransformer2DModel:
    """(B, 4, 32, 32) noisy latents, times and (B, 24, 128) text to (B, 8, 32, 32).

    The first four channels are the velocity. The other four are PixArt's variance: nothing trains
    them, samplers drop them.
    """
    width = settings.heads * settings.head_width
    model = PixArtTransformer2DModel(
        num_attention_heads=settings.heads,
        attention_head_dim=settings.head_width,
        in_channels=LATENT_CHANNELS,
        out_channels=2 * LATENT_CHANNELS,
        num_layers=settings.layers,
        cross_attention_dim=width,
        sample_size=LATENT_SIZE,
        patch_size=1,
        caption_channels=TEXT_WIDTH,
        use_additional_conditions=False,  # of the picture's size: there is only one
    )
    _start_calmly(model, settings.layers)
    return model


@torch.no_grad()
def _start_calmly(model: PixArtTransformer2DModel, layers: int) -> None:
    """Blocks that add little and look at no time yet, and nothing predicted: diffusers' own start
    is for loading weights, not for training."""
    nn.init.zeros_(model.adaln_single.linear.weight)
    nn.init.zeros_(model.adaln_single.linear.bias)
    nn.init.zeros_(model.proj_out.weight)
    nn.init.zeros_(model.proj_out.bias)
    for block in model.transformer_blocks:
        nn.init.zeros_(block.scale_shift_table)
        for gate in (2, 5):  # rows: shift, scale and gate of the attention, then of the MLP
            nn.init.ones_(block.scale_shift_table[gate])
        for last in (block.attn1.to_out[0], block.attn2.to_out[0], block.ff.net[2]):
            last.weight /= (3 * layers) ** 0.5
    nn.init.zeros_(model.scale_shift_table)


def make_scheduler() -> DPMSolverMultistepScheduler:
    """PixArt's sampler, set to flow matching."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=FLOW_SHIFT,
    )
