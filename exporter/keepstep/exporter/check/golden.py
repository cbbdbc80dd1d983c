"""Golden values: inputs, and what an eager run gives for them in float32.

They travel with the bundle, so that any machine can check what it plays. `inputs.NAME` are the
plan's inputs; `calls.INDEX.TENSOR` is what a calibration gave at the first call of each stage;
`outputs.latents` and `outputs.image` end a whole eager run of the same schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np
import torch

from keepstep.runtime.format.plan import Plan

from ..methods.registry import examples_of
from ..models import Model
from ..models.guidance import SCALE, of_guidance
from ..plan.lowering import LoweredSchedule
from .calibration import Calibration
from .reference import Network, run_eagerly

PROMPT = "a red apple"
GUIDANCE_SCALE = 5.0
SEED = 2


def golden_inputs(model: Model, entry: LoweredSchedule, batch: int) -> dict[str, np.ndarray]:
    """Everything that a plan of `entry` is given, but the conditions that are no text."""
    generator, guidance = torch.Generator().manual_seed(SEED), entry.guidance
    latents = (batch, *model.latent_shape)
    inputs = {
        "noise": torch.randn(latents, generator=generator),
        **of_guidance({SCALE: torch.tensor(GUIDANCE_SCALE)}, guidance),
        **model.text.inputs([PROMPT] * batch, [""] * batch, guidance),
        **model.told_sizes(batch, guidance),
        **examples_of(model.denoiser, entry.calls_that_run, latents, generator),
    }
    if entry.sampler.from_image:
        picture = (batch, model.height, model.width, 3)
        inputs["init_image"] = torch.randint(
            0, 256, picture, dtype=torch.uint8, generator=generator
        )
    return {name: np.asarray(tensor) for name, tensor in inputs.items()}


def golden_calls(calibration: Calibration, plan: Plan) -> dict[str, np.ndarray]:
    """What every stage must give where it is first called, rounded to what the plan holds."""
    golden = {}
    for i, outputs in calibration.outputs.items():
        stage = plan.stages[plan.calls[i].stage]
        for tensor, array in outputs.items():
            dtype = stage.outputs[tensor].dtype
            golden[f"calls.{i}.{tensor}"] = array.astype(
                ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
            )
    return golden


def golden_outputs(
    model: Model,
    entry: LoweredSchedule,
    inputs: Mapping[str, np.ndarray],
    progress: Callable[[int, int], None],
    network: Network | None = None,
) -> dict[str, np.ndarray]:
    """What the whole run must give. `model` has its weights; `network` makes the predictions."""
    batch = len(inputs["noise"])
    extra, picture = inputs.get("selection_noise"), inputs.get("init_image")
    run = run_eagerly(
        model,
        entry.schedule,
        torch.from_numpy(inputs["noise"]),
        model.embed([PROMPT] * batch, [""] * batch, entry.guidance),
        float(inputs.get("guidance_scale", 1.0)),
        None if extra is None else torch.from_numpy(extra),
        progress,
        init_image=None if picture is None else torch.from_numpy(picture),
        network=network,
    )
    return {"outputs.latents": run.latents, "outputs.image": run.image}
