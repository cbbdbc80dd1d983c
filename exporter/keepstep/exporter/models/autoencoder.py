"""The VAE of a checkpoint: between pictures and the latents that a sampler works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from ..errors import ModelError


@dataclass(frozen=True)
class LatentScale:
    """How a pipeline brings a VAE's latents to the sampler's scale: (z − mean) · factor / std.

    mean and std have a number for each channel of the latents, or are both None; then there may
    be one `shift` in the place of all means.
    """

    factor: float
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    shift: float = 0.0

    def to_sampler(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) as the VAE encodes them, for the sampler."""
        if self.mean is None or self.std is None:
            return (latents - self.shift if self.shift else latents) * self.factor
        return (latents - _of_channels(self.mean, latents)) * (
            self.factor / _of_channels(self.std, latents)
        )

    def to_vae(self, latents: Tensor) -> Tensor:
        """The sampler's latents (B, C, h, w), for the VAE to decode."""
        if self.mean is None or self.std is None:
            scaled = latents / self.factor
            return scaled + self.shift if self.shift else scaled
        return latents * (_of_channels(self.std, latents) / self.factor) + _of_channels(
            self.mean, latents
        )

    @staticmethod
    def with_shift(config: Mapping[str, Any]) -> LatentScale:
        """With the VAE's shift, as the pipelines of transformers for flow matching have it."""
        shift = float(config["shift_factor"] or 0)
        return LatentScale(float(config["scaling_factor"]), shift=shift)

    @staticmethod
    def with_statistics(config: Mapping[str, Any], where: str) -> LatentScale:
        """With the VAE's statistics where its config has both, as SDXL's pipeline has it."""
        factor, channels = float(config["scaling_factor"]), config["latent_channels"]
        statistics: list[Any] = [config.get("latents_mean"), config.get("latents_std")]
        if None in statistics:
            return LatentScale(factor)
        for name, numbers in zip(("latents_mean", "latents_std"), statistics, strict=True):
            if len(numbers) != channels:
                raise ModelError(
                    f"{where}: {name} has {len(numbers)} numbers, expected one for each "
                    f"of the {channels} channels of its latents: mend the config"
                )
        mean, std = (tuple(map(float, numbers)) for numbers in statistics)
        return LatentScale(factor, mean, std)


@dataclass(frozen=True)
class Autoencoder:
    """An AutoencoderKL and the scale of its latents; pictures are floats in −1 … 1."""

    component: ClassVar[str] = "vae"

    module: AutoencoderKL
    scale: LatentScale

    @property
    def factor(self) -> int:
        """Pixels a side of each latent."""
        return int(2 ** (len(self.module.config.block_out_channels) - 1))

    @property
    def upcast(self) -> bool:
        """Whether the checkpoint's authors say that it overflows in half precision."""
        return bool(self.module.config.force_upcast)

    def encode(self, picture: Tensor) -> Tensor:
        """Picture (B, 3, H, W) → the mode of its latents (B, C, h, w), for the sampler."""
        return self.scale.to_sampler(self.module.encode(picture).latent_dist.mode())

    def decode(self, latents: Tensor) -> Tensor:
        """The sampler's latents (B, C, h, w) → picture (B, 3, H, W)."""
        picture: Tensor = self.module.decode(self.scale.to_vae(latents), return_dict=False)[0]
        return picture


def _of_channels(numbers: tuple[float, ...], latents: Tensor) -> Tensor:
    """One number for each channel, (1, C, 1, 1)."""
    made = torch.tensor(numbers, dtype=latents.dtype, device=latents.device)
    return made.reshape(1, -1, 1, 1)
