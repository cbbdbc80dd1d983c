"""The four parts of the model, freshly made, in the configurations that are exported."""

from __future__ import annotations

from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from recipe.head_start import give_autoencoder_head_start, give_unet_head_start
from recipe.settings import (
    PICTURE_SIZE,
    TEXT_LENGTH,
    TEXT_WIDTH,
    AutoencoderSettings,
    DenoiserSettings,
    TextEncoderSettings,
)

LATENT_CHANNELS = 4
LATENT_SIZE = PICTURE_SIZE // 4


def make_autoencoder(settings: AutoencoderSettings) -> AutoencoderKL:
    """(B, 3, 4h, 4w) in -1..1 to (B, 4, h, w) and back."""
    levels = len(settings.channels)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=settings.channels,
        layers_per_block=settings.layers_per_block,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=settings.norm_groups,
        sample_size=PICTURE_SIZE,
        mid_block_add_attention=False,
        force_upcast=False,
    )
    return give_autoencoder_head_start(model)


def make_text_encoder(settings: TextEncoderSettings, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """(B, 16) token ids to (B, 16, 128)."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            max_position_embeddings=TEXT_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_unet(settings: DenoiserSettings) -> UNet2DConditionModel:
    """(B, 4, 32, 32) noisy latents, timestep and (B, 16, 128) text to the noise in them."""
    model = UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=settings.channels,
        layers_per_block=settings.layers_per_block,
        attention_head_dim=settings.heads,  # despite its name, the number of heads
        norm_num_groups=settings.norm_groups,
        cross_attention_dim=TEXT_WIDTH,
    )
    return give_unet_head_start(model)


def make_scheduler() -> PNDMScheduler:
    """Stable Diffusion 1.5's own scheduler."""
    return PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )
