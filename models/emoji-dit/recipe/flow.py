"""Flow matching: a straight line from picture to noise, and how often each place on it is drawn.

Lipman et al., "Flow Matching for Generative Modeling", arXiv:2210.02747; logit-normal times and
their shift: Esser et al., "Scaling Rectified Flow Transformers", arXiv:2403.03206.
"""

from __future__ import annotations

import math

import torch

from recipe.settings import FLOW_SHIFT

TIMES = 1000


def draw_times(count: int, spread: float, generator: torch.Generator) -> torch.Tensor:
    """(count,) whole times, 0 to 999, as schedulers give them; stratified over the batch.

    Logit-normal, around where the scheduler's shift puts the middle of its steps.
    """
    strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    normal = math.sqrt(2) * torch.erfinv((2 * strata - 1).clamp(-0.99999, 0.99999))
    share = torch.sigmoid(math.log(FLOW_SHIFT) + spread * normal)
    return (share * TIMES).long().clamp(max=TIMES - 1)


def mix(clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Noisy latents, (B, 4, h, w): the time is the share of noise."""
    share = (times.float() / TIMES).view(-1, 1, 1, 1)
    return (1 - share) * clean + share * noise


def loss(predicted: torch.Tensor, clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Mean squared error in the velocity; what is predicted of variance is left out."""
    return (predicted[:, : clean.shape[1]].float() - (noise - clean)).square().mean()
