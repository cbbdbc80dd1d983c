"""Pictures as arrays and as an autoencoder's latents, both ways; what the way there costs."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL


def to_signed(pixels: np.ndarray | torch.Tensor) -> torch.Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in -1..1."""
    return torch.as_tensor(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(signed: torch.Tensor) -> np.ndarray:
    """float (B, 3, H, W) in -1..1 to uint8 (B, H, W, 3)."""
    scaled = ((signed.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()


@torch.no_grad()
def encode(model: AutoencoderKL, pixels: np.ndarray, half: bool = False) -> torch.Tensor:
    """uint8 (N, 128, 128, 3) to unscaled latents (N, 4, 32, 32), or (N, 4, 16, 16) when `half`."""
    latents = []
    for start in range(0, len(pixels), 32):
        picture = to_signed(pixels[start : start + 32])
        if half:
            picture = F.interpolate(picture, scale_factor=0.5, mode="area")
        picture = picture.to(next(model.parameters()).device)
        latents.append(model.encode(picture).latent_dist.mean.float().cpu())
    return torch.cat(latents)


@torch.no_grad()
def decode(model: AutoencoderKL, latents: torch.Tensor) -> np.ndarray:
    """Scaled latents (N, 4, h, w) to uint8 (N, 4h, 4w, 3)."""
    on = next(model.parameters()).device
    parts = (latents / model.config.scaling_factor).to(on).split(16)
    return np.concatenate([to_pixels(model.decode(part).sample) for part in parts])


def psnr(drawn: np.ndarray, pixels: np.ndarray) -> float:
    """Of uint8 pictures (N, H, W, 3), mean over pictures, in dB."""
    error = ((drawn.astype(float) - pixels) ** 2).mean(axis=(1, 2, 3))
    return float((10 * np.log10(255**2 / error)).mean())
