"""Golden values: inputs, and the outputs that an eager run of the same schedule gives for them.

They travel with the bundle, so that any machine can check what it plays.
"""

from __future__ import annotations

import numpy as np
import torch

from .lowering import LoweredSchedule
from .models import StableDiffusion
from .reference import embed, run_eagerly

PROMPT = "a red apple"
GUIDANCE_SCALE = 5.0
SEED = 0


def golden_values(
    model: StableDiffusion, entry: LoweredSchedule, batch: int
) -> dict[str, np.ndarray]:
    """`inputs.NAME` and `outputs.NAME` → array, for one run of `entry`."""
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.randn(batch, *model.latent_shape, generator=generator)
    ids = model.token_ids([PROMPT] * batch)
    negative = model.token_ids([""] * batch)
    golden = {
        "inputs.noise": noise.numpy(),
        "inputs.token_ids": ids.numpy(),
        "inputs.negative_token_ids": negative.numpy(),
        "inputs.guidance_scale": np.array(GUIDANCE_SCALE, np.float32),
    }
    extra = None
    if any(call.prune and call.prune.alpha for call in entry.calls):
        _, h, w = model.latent_shape
        extra = torch.randn(len(entry.variants), batch, h * w, generator=generator)
        golden["inputs.selection_noise"] = extra.numpy()
    embeds, negative_embeds = (embed(model, [text] * batch) for text in (PROMPT, ""))
    run = run_eagerly(model, entry.schedule, noise, embeds, negative_embeds, GUIDANCE_SCALE, extra)
    return golden | {"outputs.latents": run.latents, "outputs.image": run.image}
