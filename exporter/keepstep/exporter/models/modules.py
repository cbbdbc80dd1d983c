"""The networks of a text-to-image run as torch modules whose inputs are a plan's values.

Shapes: B pictures, latents (B, C, h, w), L token ids a prompt, D text features, and a window of
S predictions with the newest first; axis 2 of the window is guidance: unconditional, conditional.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from ..pruning.attach import CallContext
from ..pruning.dato import change_of_tokens


def combine(noise: Tensor, history: Tensor, coef: Tensor, guidance_scale: Tensor) -> Tensor:
    """Latents (B, C, h, w): the sampler's linear map, then classifier-free guidance.

    noise (B, C, h, w), history (S, 2, B, C, h, w), coef (1, 1 + S), guidance_scale (). All
    float32. Guidance is linear too, so it may come after the sum over the history.
    """
    s = history.shape[0]
    summed = (coef[:, 1:] @ history.reshape(s, -1)).reshape(history.shape[1:])
    unconditional, conditional = summed[0], summed[1]
    guided = unconditional + guidance_scale * (conditional - unconditional)
    return coef[0, 0] * noise + guided


class TextEncoder(nn.Module):
    """token ids (B, L) of prompt and negative prompt → their embeddings (B, L, D)."""

    def __init__(self, text_encoder: nn.Module) -> None:
        super().__init__()
        self.text_encoder = text_encoder

    def forward(self, token_ids: Tensor, negative_token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Both prompts in one batch."""
        ids = torch.cat([token_ids, negative_token_ids])
        embeds = self.text_encoder(ids)[0]
        positive, negative = embeds.chunk(2)
        return positive, negative


class TwoTextEncoders(nn.Module):
    """Token ids (B, L) for two encoders → embeddings (B, L, D₁ + D₂) and pooled ones (B, P).

    Both encoders give their last layer but one, and the second one its projected pooled output.
    """

    def __init__(self, text_encoder: nn.Module, text_encoder_2: nn.Module) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.text_encoder_2 = text_encoder_2

    def forward(
        self,
        token_ids: Tensor,
        negative_token_ids: Tensor,
        token_ids_2: Tensor,
        negative_token_ids_2: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both prompts in one batch."""
        one = self.text_encoder(
            torch.cat([token_ids, negative_token_ids]), output_hidden_states=True
        )
        two = self.text_encoder_2(
            torch.cat([token_ids_2, negative_token_ids_2]), output_hidden_states=True
        )
        embeds = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
        positive, negative = embeds.chunk(2)
        pooled, negative_pooled = two.text_embeds.chunk(2)
        return positive, negative, pooled, negative_pooled


def unet_arguments(conditions: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a UNet is told of the prompt, unconditional half first, as keyword arguments."""

    def both(name: str) -> Tensor:
        return torch.cat([conditions[f"negative_{name}"], conditions[name]])

    arguments: dict[str, Any] = {"encoder_hidden_states": both("prompt_embeds")}
    if "time_ids" in conditions:
        added = {"text_embeds": both("pooled_prompt_embeds"), "time_ids": both("time_ids")}
        arguments["added_cond_kwargs"] = added
    return arguments


class Encoder(nn.Module):
    """The image that a run starts from, uint8 (B, H, W, 3) → its latents (1, 2, B, C, h, w)."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, init_image: Tensor) -> Tensor:
        """The mode of the posterior, in float32; both halves are alike, so that guidance
        leaves them as they are."""
        picture = (init_image.float() / 255 * 2 - 1).permute(0, 3, 1, 2)
        latents = self.vae.encode(picture).latent_dist.mode()
        latents = (latents - (self.vae.config.shift_factor or 0)) * self.vae.config.scaling_factor
        return torch.stack([latents, latents]).unsqueeze(0)


class NetworkCall(nn.Module):
    """One call of the network: (1, 2, B, C, h, w) predictions in float32, before guidance."""

    def __init__(self, unet: UNet2DConditionModel, context: CallContext | None) -> None:
        super().__init__()
        self.unet = unet
        self.context = context

    def forward(
        self,
        noise: Tensor,
        history: Tensor,
        coef: Tensor,
        guidance_scale: Tensor,
        timestep: Tensor,
        score_weights: Tensor | None = None,
        selection_noise: Tensor | None = None,
        **conditions: Tensor,
    ) -> Tensor:
        """score_weights (1, 2) are γ and α of this call; selection_noise is (1, B, N).

        conditions are what the network is told of the prompt (`StableDiffusion.conditions`).
        """
        sample = combine(noise, history, coef, guidance_scale)
        if self.context:
            assert score_weights is not None
            # Slots 0 and 1 of the window are the two last predictions; [·, 0] is unconditional.
            change = (history[0, 0] - history[1, 0]).abs().mean(dim=1)
            change = change_of_tokens(change, self.context.counts)
            score = score_weights[0, 0] * change
            if selection_noise is not None:
                score = score + score_weights[0, 1] * selection_noise[0]
            self.context.begin(score)
        sample = torch.cat([sample, sample])
        with _one_timestep(self.unet):
            arguments = unet_arguments(conditions)
            prediction: Tensor = self.unet(sample, timestep, **arguments, return_dict=False)[0]
        return prediction.reshape(1, 2, *noise.shape)


@contextmanager
def _one_timestep(unet: UNet2DConditionModel) -> Iterator[None]:
    """While active, the time embedding has one row for the whole batch.

    All pictures of a call are at the same timestep; diffusers would embed it once for each, and
    the plan's tables would repeat every row as often.
    """
    embed = unet.get_time_embed
    unet.get_time_embed = lambda sample, timestep: embed(sample=sample[:1], timestep=timestep)
    try:
        yield
    finally:
        del unet.get_time_embed  # the class's own again


class Decoder(nn.Module):
    """The finished history → latents (B, C, h, w) and the picture, uint8 (B, H, W, 3)."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(
        self, noise: Tensor, history: Tensor, coef: Tensor, guidance_scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The sampler's last row of coefficients makes the latents."""
        latents = combine(noise, history, coef, guidance_scale)
        scaled = latents / self.vae.config.scaling_factor
        picture = self.vae.decode(scaled, return_dict=False)[0]
        picture = (picture / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
        return latents, (picture * 255).round().to(torch.uint8)
