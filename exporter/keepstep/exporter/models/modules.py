"""The networks of a text-to-image run as torch modules whose inputs are a plan's values.

Shapes: B pictures, latents (B, C, h, w), L token ids a prompt, D text features, and a window of
S predictions with the newest first; axis 2 of the window has the H halves of guidance:
unconditional and conditional, or the conditional one alone in a run without guidance. Whatever is
negative, and the guidance scale, are None in such a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from ..pruning.attach import CallContext
from ..pruning.dato import change_of_tokens
from ..pruning.marks import marks_of


def combine(noise: Tensor, history: Tensor, coef: Tensor, guidance_scale: Tensor | None) -> Tensor:
    """Latents (B, C, h, w): the sampler's linear map, then classifier-free guidance.

    noise (B, C, h, w), history (S, H, B, C, h, w), coef (1, 1 + S), guidance_scale (). All
    float32. Guidance is linear too, so it may come after the sum over the history. At a scale of
    1 or less diffusers' pipelines leave it out (`do_classifier_free_guidance`): the prediction is
    the conditional one, which is what a scale of 1 gives.
    """
    s = history.shape[0]
    summed = (coef[:, 1:] @ history.reshape(s, -1)).reshape(history.shape[1:])
    if guidance_scale is None:
        return coef[0, 0] * noise + summed[0]
    unconditional, conditional = summed[0], summed[1]
    guided = unconditional + guidance_scale.clamp(min=1.0) * (conditional - unconditional)
    return coef[0, 0] * noise + guided


@dataclass(frozen=True)
class LatentScale:
    """How a pipeline brings a VAE's latents to the sampler's scale: (z − mean) · factor / std.

    mean and std have a number for each channel of the latents, or are both None.
    """

    factor: float
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def to_sampler(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) as the VAE encodes them, for the sampler."""
        if self.mean is None or self.std is None:
            return latents * self.factor
        return (latents - _of_channels(self.mean, latents)) * (
            self.factor / _of_channels(self.std, latents)
        )

    def to_vae(self, latents: Tensor) -> Tensor:
        """The sampler's latents (B, C, h, w), for the VAE to decode."""
        if self.mean is None or self.std is None:
            return latents / self.factor
        return latents * (_of_channels(self.std, latents) / self.factor) + _of_channels(
            self.mean, latents
        )


def _of_channels(numbers: tuple[float, ...], latents: Tensor) -> Tensor:
    """One number for each channel, (1, C, 1, 1)."""
    made = torch.tensor(numbers, dtype=latents.dtype, device=latents.device)
    return made.reshape(1, -1, 1, 1)


def _both(positive: Tensor, negative: Tensor | None) -> Tensor:
    """Both prompts in one batch, or the positive one alone."""
    return positive if negative is None else torch.cat([positive, negative])


class TextEncoder(nn.Module):
    """token ids (B, L) of prompt and negative prompt → their embeddings (B, L, D)."""

    def __init__(self, text_encoder: nn.Module) -> None:
        super().__init__()
        self.text_encoder = text_encoder

    def forward(
        self, token_ids: Tensor, negative_token_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Both prompts in one batch."""
        embeds = self.text_encoder(_both(token_ids, negative_token_ids))[0]
        return (embeds,) if negative_token_ids is None else embeds.chunk(2)


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
        token_ids_2: Tensor,
        negative_token_ids: Tensor | None = None,
        negative_token_ids_2: Tensor | None = None,
        negative_prompt_given: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Both prompts in one batch.

        negative_prompt_given (B,), bool, is there for models to which no negative prompt means
        zeros, and not the embedding of an empty one (`force_zeros_for_empty_prompt`).
        """
        ids, ids_2 = _both(token_ids, negative_token_ids), _both(token_ids_2, negative_token_ids_2)
        one = self.text_encoder(ids, output_hidden_states=True)
        two = self.text_encoder_2(ids_2, output_hidden_states=True)
        embeds = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
        pooled: Tensor = two.text_embeds
        if negative_token_ids is None:
            return embeds, pooled
        positive, negative = embeds.chunk(2)
        pooled, negative_pooled = pooled.chunk(2)
        if negative_prompt_given is not None:
            given = negative_prompt_given.to(embeds.dtype)[:, None]
            negative, negative_pooled = negative * given[:, :, None], negative_pooled * given
        return positive, negative, pooled, negative_pooled


def unet_arguments(conditions: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a UNet is told of the prompt, unconditional half first, as keyword arguments."""

    def both(name: str) -> Tensor:
        negative = conditions.get(f"negative_{name}")
        return conditions[name] if negative is None else torch.cat([negative, conditions[name]])

    arguments: dict[str, Any] = {"encoder_hidden_states": both("prompt_embeds")}
    if "time_ids" in conditions:
        added = {"text_embeds": both("pooled_prompt_embeds"), "time_ids": both("time_ids")}
        arguments["added_cond_kwargs"] = added
    return arguments


class Encoder(nn.Module):
    """The image that a run starts from, uint8 (B, H, W, 3) → its latents, for every half."""

    def __init__(self, vae: AutoencoderKL, scale: LatentScale, halves: int) -> None:
        super().__init__()
        self.vae = vae
        self.scale = scale
        self.halves = halves

    def forward(self, init_image: Tensor) -> Tensor:
        """The mode of the posterior, (1, halves, B, C, h, w) in float32; the halves are alike, so
        that guidance leaves them as they are."""
        picture = (init_image.float() / 255 * 2 - 1).permute(0, 3, 1, 2)
        latents = self.scale.to_sampler(self.vae.encode(picture).latent_dist.mode())
        return torch.stack([latents] * self.halves).unsqueeze(0)


class NetworkCall(nn.Module):
    """One call of the network: (1, H, B, C, h, w) predictions in float32, before guidance.

    Behind them, the marks (HB, N) of every selection of tokens that it made (`pruning.marks`).
    """

    def __init__(self, unet: UNet2DConditionModel, context: CallContext | None) -> None:
        super().__init__()
        self.unet = unet
        self.context = context

    def forward(
        self,
        noise: Tensor,
        history: Tensor,
        coef: Tensor,
        timestep: Tensor,
        guidance_scale: Tensor | None = None,
        score_weights: Tensor | None = None,
        selection_noise: Tensor | None = None,
        **conditions: Tensor,
    ) -> tuple[Tensor, ...]:
        """score_weights (1, 2) are γ and α of this call; selection_noise is (1, B, N).

        conditions are what the network is told of the prompt (`StableDiffusion.conditions`).
        """
        sample = combine(noise, history, coef, guidance_scale)
        if self.context:
            assert score_weights is not None
            # Slots 0 and 1 of the window are the two last predictions; [·, 0] is unconditional,
            # or all that there is.
            change = (history[0, 0] - history[1, 0]).abs().mean(dim=1)
            change = change_of_tokens(change, self.context.counts)
            score = score_weights[0, 0] * change
            if selection_noise is not None:
                score = score + score_weights[0, 1] * selection_noise[0]
            self.context.begin(score)
        halves = history.shape[1]
        sample = torch.cat([sample] * halves)
        with _one_timestep(self.unet):
            arguments = unet_arguments(conditions)
            prediction: Tensor = self.unet(sample, timestep, **arguments, return_dict=False)[0]
        made = self.context.made.values() if self.context else ()
        marks = (marks_of(selection, self.context.counts) for selection in made if self.context)
        return prediction.reshape(1, halves, *noise.shape), *marks


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

    def __init__(self, vae: AutoencoderKL, scale: LatentScale) -> None:
        super().__init__()
        self.vae = vae
        self.scale = scale

    def forward(
        self, noise: Tensor, history: Tensor, coef: Tensor, guidance_scale: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The sampler's last row of coefficients makes the latents."""
        latents = combine(noise, history, coef, guidance_scale)
        picture = self.vae.decode(self.scale.to_vae(latents), return_dict=False)[0]
        # A picture of ints cannot say that it is none, so its latents do. A sum is NaN or infinite
        # where one of its parts is, and `where` leaves the bits of all others as they are.
        finite = picture.sum((1, 2, 3), keepdim=True).abs() <= torch.finfo(torch.float32).max
        latents = torch.where(finite, latents, torch.nan)
        picture = (picture / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
        return latents, (picture * 255).round().to(torch.uint8)
