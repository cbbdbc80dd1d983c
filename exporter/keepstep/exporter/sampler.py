"""Sampler lowering: a diffusers scheduler becomes one matrix of coefficients.

Every deterministic scheduler is linear in the start noise and in the predictions. So the real
scheduler object is run once, in float64, on basis vectors, and the coefficients are read off: the
input of call k is `inputs[k] @ [noise, prediction 0, prediction 1, …]`. No scheduler is written
again here, and none exists at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from inspect import signature
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from numpy.typing import NDArray

from .errors import SamplerError
from .schedule import Sampler

# Some schedulers cast to float32 inside, so their coefficients carry about 1e-7.
LINEAR_TOLERANCE = 1e-4
PROBE_SCALE = 100.0  # large enough for any clipping or thresholding to bite


@dataclass(frozen=True)
class LoweredSampler:
    """Coefficients over the basis [noise, prediction 0, …, prediction R−1].

    `inputs` has shape (R, 1 + R): row k makes call k's input (already scaled for the network).
    `result` has shape (1 + R,) and makes the final latents. `noise` is standard normal: the
    scheduler's initial sigma is in the coefficients. `timesteps[k]` is what call k is told.
    """

    name: str
    inputs: NDArray[np.float64]
    result: NDArray[np.float64]
    timesteps: tuple[float, ...]


def scheduler_from(config: Mapping[str, Any], sampler: Sampler) -> SchedulerMixin:
    """The diffusers scheduler that `sampler` names, configured as the model folder says."""
    cls: Any = getattr(diffusers, sampler.scheduler, None)
    missing = [name for name in getattr(cls, "_backends", ()) if find_spec(name) is None]
    if missing:  # diffusers has a stand-in for a scheduler whose packages are not there
        raise SamplerError(
            f"{sampler.scheduler} needs {', '.join(missing)}: install it, or use another scheduler"
        )
    if not _is_scheduler(cls):
        names = [name for name in dir(diffusers) if name.endswith("Scheduler")]
        near = get_close_matches(sampler.scheduler, names, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise SamplerError(f"diffusers has no scheduler '{sampler.scheduler}'.{hint}")
    unknown = set(sampler.overrides) - set(signature(cls).parameters)
    if unknown:
        raise SamplerError(
            f"{sampler.scheduler} has no setting {sorted(unknown)}: remove it from `sampler`"
        )
    try:
        return cls.from_config(dict(config), **sampler.overrides)
    except Exception as error:  # whatever a third-party scheduler raises, the user chose it
        raise SamplerError(f"{sampler.scheduler} refuses its settings: {error}") from error


def _is_scheduler(cls: object) -> bool:
    return isinstance(cls, type) and issubclass(cls, SchedulerMixin)


def lower(scheduler: SchedulerMixin, steps: int) -> LoweredSampler:
    """Probe `scheduler` over `steps` steps; raises `SamplerError` if it is no fixed linear map."""
    name = type(scheduler).__name__
    try:
        _check_repeatable(scheduler, steps)
        lowered = _probe(scheduler, steps)
        _check_linear(scheduler, steps, lowered)
    except (SamplerError, AssertionError):  # refused by us, or a fault of ours
        raise
    except Exception as error:  # whatever a third-party scheduler raises, the user chose it
        raise SamplerError(f"{name} cannot be run for {steps} steps: {error}") from error
    return lowered


def _run(
    scheduler: SchedulerMixin, steps: int, noise: torch.Tensor, predictions: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the scheduler elementwise on `noise` (dim,).

    Prediction k is `predictions[k]`, or the k-th basis vector of dim where none are given.
    Returns the calls' inputs (R, dim) and the result (dim,).
    """
    scheduler.set_timesteps(steps)
    shape = (1, 1, 1, noise.numel())
    sample = noise * float(getattr(scheduler, "init_noise_sigma", 1.0))
    inputs = []
    for k, t in enumerate(scheduler.timesteps):
        scaled = sample.view(shape)
        if hasattr(scheduler, "scale_model_input"):
            scaled = scheduler.scale_model_input(scaled, t)
        inputs.append(scaled.reshape(-1).clone())
        if predictions is None:
            prediction = torch.zeros_like(noise)
            prediction[1 + k] = 1.0
        else:
            prediction = predictions[k]
        step = scheduler.step(prediction.view(shape), t, sample.view(shape), return_dict=False)
        sample = step[0].reshape(-1).to(torch.float64)
    return torch.stack(inputs), sample


def _probe(scheduler: SchedulerMixin, steps: int) -> LoweredSampler:
    scheduler.set_timesteps(steps)
    timesteps = tuple(float(t) for t in scheduler.timesteps)
    noise = torch.zeros(1 + len(timesteps), dtype=torch.float64)
    noise[0] = 1.0
    inputs, result = _run(scheduler, steps, noise, None)
    # An input can only depend on what came before it; anything else is a misreading of ours.
    assert not torch.triu(inputs[:, 1:]).any(), "a scheduler's coefficients are not causal"
    return LoweredSampler(
        name=type(scheduler).__name__,
        inputs=inputs.numpy(),
        result=result.numpy(),
        timesteps=timesteps,
    )


def _check_repeatable(scheduler: SchedulerMixin, steps: int) -> None:
    """Run twice on the same numbers: a deterministic scheduler gives the same bits."""
    basis = _random_basis(scheduler, steps)
    first, second = (_run(scheduler, steps, basis[0], basis[1:])[1] for _ in range(2))
    if not torch.equal(first, second):
        raise SamplerError(
            f"{type(scheduler).__name__} draws noise while it samples, so its run is not a fixed "
            "program: use a deterministic scheduler such as DDIM, PNDM, Euler or DPM-Solver++"
        )


def _check_linear(scheduler: SchedulerMixin, steps: int, lowered: LoweredSampler) -> None:
    """Run on large random numbers: the answer is the one that the matrix gives."""
    basis = _random_basis(scheduler, steps)
    first = _run(scheduler, steps, basis[0], basis[1:])[1].numpy()
    scale = np.abs(lowered.result).max() * PROBE_SCALE
    if np.abs(first - lowered.result @ basis.numpy()).max() > LINEAR_TOLERANCE * scale:
        config = scheduler.config
        causes = [key for key in ("thresholding", "clip_sample") if config.get(key)]
        why = f" (`{causes[0]}` is on: set it to false in `sampler`)" if causes else ""
        raise SamplerError(
            f"{lowered.name} is not linear in the predictions{why}, so it has no coefficients; "
            "use a linear scheduler such as DDIM, PNDM, Euler or DPM-Solver++"
        )


def _random_basis(scheduler: SchedulerMixin, steps: int) -> torch.Tensor:
    """Large random start noise (row 0) and predictions, float64, the same every time."""
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    shape = (1 + len(scheduler.timesteps), 64)
    return PROBE_SCALE * torch.randn(shape, dtype=torch.float64, generator=generator)
