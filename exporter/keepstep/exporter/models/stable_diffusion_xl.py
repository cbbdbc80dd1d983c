"""Stable Diffusion XL: two text encoders, and micro-conditioning of the picture's size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from ..errors import ModelError
from .modules import LatentScale, TwoTextEncoders
from .stable_diffusion import StableDiffusion

SIZES = 6  # original height and width, crop top and left, target height and width


@dataclass(frozen=True)
class StableDiffusionXL(StableDiffusion):
    """An SDXL checkpoint at one picture size."""

    family: ClassVar[str] = "stable-diffusion-xl"
    TEXT: ClassVar[Mapping[str, Any]] = {
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
    }
    TOKENIZERS: ClassVar[Mapping[str, str]] = {
        "token_ids": "tokenizer",
        "token_ids_2": "tokenizer_2",
    }
    ADDED: ClassVar[str | None] = "text_time"
    SCHEDULER: ClassVar[Mapping[str, object]] = {}

    @property
    def zero_without_negative(self) -> bool:
        """Whether no negative prompt means zeros, and not the embedding of an empty one.

        The default is that of `StableDiffusionXLPipeline`.
        """
        return bool(self.checkpoint.index.get("force_zeros_for_empty_prompt", True))

    @property
    def latent_scale(self) -> LatentScale:
        """With the VAE's statistics where it has both, as `StableDiffusionXLPipeline` has it."""
        scale, config = super().latent_scale, self.vae.config
        statistics = [config.get("latents_mean"), config.get("latents_std")]
        if None in statistics:
            return scale
        channels = config.latent_channels
        for name, numbers in zip(("latents_mean", "latents_std"), statistics, strict=True):
            if len(numbers) != channels:
                raise ModelError(
                    f"{self.name}/vae: {name} has {len(numbers)} numbers, expected one for each "
                    f"of the {channels} channels of its latents: mend the config"
                )
        mean, std = (tuple(map(float, numbers)) for numbers in statistics)
        return LatentScale(scale.factor, mean, std)

    @classmethod
    def _native_size(cls, unet: UNet2DConditionModel) -> Any:
        """What the config says: its pipeline does not doubt it."""
        return unet.config.sample_size

    def text_inputs(
        self, prompts: list[str], negative_prompts: list[str] | None
    ) -> dict[str, Tensor]:
        """Token ids, and whether there are negative prompts where that makes a difference."""
        inputs = super().text_inputs(prompts, negative_prompts)
        if self.zero_without_negative:
            given = torch.full((len(prompts),), negative_prompts is not None)
            inputs["negative_prompt_given"] = given
        return inputs

    def text_stage(self) -> tuple[nn.Module, tuple[str, ...]]:
        """Both encoders: embeddings of the tokens, and pooled ones of the prompts."""
        encoders = (self.text_encoders["text_encoder"], self.text_encoders["text_encoder_2"])
        return TwoTextEncoders(*encoders), tuple(self._embeddings(1))

    def conditions(self, batch: int) -> Mapping[str, tuple[int, ...]]:
        """Embeddings, and the sizes that the network was trained to be told."""
        sizes = (batch, SIZES)
        return self._embeddings(batch) | {"time_ids": sizes, "negative_time_ids": sizes}

    def sizes(self, batch: int) -> dict[str, Tensor]:
        """An uncropped picture of this size."""
        size = torch.tensor([[self.height, self.width, 0, 0, self.height, self.width]])
        ids = size.float().repeat(batch, 1)
        return {"time_ids": ids, "negative_time_ids": ids.clone()}

    def _embeddings(self, batch: int) -> dict[str, tuple[int, ...]]:
        config: Any = self.text_encoders["text_encoder_2"].config
        pooled = (batch, int(config.projection_dim))
        return super()._embeddings(batch) | {
            "pooled_prompt_embeds": pooled,
            "negative_pooled_prompt_embeds": pooled,
        }
