"""Noise levels in training: how often each is drawn, and how much its error counts."""

from __future__ import annotations

import torch


class NoiseLevels:
    """The scheduler's noise levels as alpha and sigma a timestep, (1000,) each."""

    def __init__(self, alphas_cumprod: torch.Tensor, gamma: float, bias: float) -> None:
        self.alpha = alphas_cumprod.sqrt()
        self.sigma = (1 - alphas_cumprod).sqrt()
        snr = alphas_cumprod / (1 - alphas_cumprod)
        # Min-SNR (Hang et al., 2023) for noise prediction: at low noise the error in the noise says
        # next to nothing about the picture, so it counts less.
        self.weight = snr.clamp(max=gamma) / snr
        self.bias = bias

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """(count,) timesteps, stratified over the batch, tilted to high noise.

        The white background, the shape and the colour are settled there, and a caption matters
        most there.
        """
        strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        return (strata ** (1 / self.bias) * len(self.alpha)).long().clamp(max=len(self.alpha) - 1)

    def add(self, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Noisy latents, (B, 4, h, w)."""
        rows = t.view(-1, 1, 1, 1)
        return self.alpha[rows] * clean + self.sigma[rows] * noise

    def loss(self, predicted: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Weighted mean squared error in the noise."""
        error = (predicted.float() - noise).square().mean(dim=(1, 2, 3))
        return (error * self.weight[t]).mean()

    def to(self, device: torch.device) -> NoiseLevels:
        self.alpha, self.sigma = self.alpha.to(device), self.sigma.to(device)
        self.weight = self.weight.to(device)
        return self
