"""Flow matching: which schedulers sample it, and how pipelines of transformers ask them for times.

The networks predict a velocity, noise − data; a time is the share of noise. Larger pictures need
more of their steps where there is much noise, so times are shifted, by a fixed amount or by one
that depends on the number of tokens. Source: Esser et al., "Scaling Rectified Flow Transformers",
arXiv:2403.03206, section 5.3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import numpy as np

from ..schedule.sampler import Timing


def first_step(steps: int, strength: float) -> int:
    """Steps that a run from an image leaves out, as `get_timesteps` of these pipelines' img2img,
    which rounds to fewer left out than that of Stable Diffusion."""
    return int(max(steps - min(steps * strength, steps), 0))


def shifted_by_size(tokens: int, largest: float) -> Timing:
    """Of a picture of `tokens` tokens, whose times are shifted where the scheduler asks for that.

    largest   the shift of 4096 tokens where the scheduler's config has none
    """
    return Timing(lambda scheduler, steps: _shift(scheduler.config, tokens, largest), first_step)


def from_a_line(tokens: int, largest: float) -> Timing:
    """The same, of times that begin as a line down to 1 ÷ steps, not to the scheduler's last."""

    def settings(scheduler: Any, steps: int) -> dict[str, object]:
        told = _shift(scheduler.config, tokens, largest)
        takes_sigmas = "sigmas" in signature(scheduler.set_timesteps).parameters
        if takes_sigmas and not scheduler.config.get("use_flow_sigmas"):
            told["sigmas"] = np.linspace(1.0, 1 / steps, steps)
        return told

    return Timing(settings, first_step)


def _shift(config: Mapping[str, Any], tokens: int, largest: float) -> dict[str, object]:
    """`mu`, the logarithm of the shift: a line through two numbers of tokens."""
    if not config.get("use_dynamic_shifting"):
        return {}
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", largest)
    slope = (high - low) / (many - few)
    return {"mu": tokens * slope + (low - slope * few)}
