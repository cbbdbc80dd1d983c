"""Sampler lowering: a diffusers scheduler becomes one matrix of coefficients.

Every deterministic scheduler is linear in the start noise and in the predictions. So the real
scheduler object is run once, in float64, on basis vectors, and the coefficients are read off: the
input of call k is `inputs[k] @ [noise, prediction 0, prediction 1, …]`. No scheduler is written
again here, and none exists at run time.

A run may start from an image instead of pure noise (SDEdit): `add_noise` is linear in both, so the
image's latents are one more basis vector, "prediction −1".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from numpy.typing import NDArray

from keepstep.runtime.quoting import sanitize

from ..errors import SamplerError
from .settings import first_step

# Some schedulers cast to float32 inside, so their coefficients carry about 1e-7.
LINEAR_TOLERANCE = 1e-4
PROBE_SCALE = 100.0  # large enough for any clipping or thresholding to bite


@dataclass(frozen=True)
class Timing:
    """How a family's pipeline asks its scheduler for timesteps.

    settings     of a scheduler and a number of steps → what `set_timesteps` is told beside steps
    first_step   of steps and strength → how many of the steps a run from an image leaves out
    """

    settings: Callable[[SchedulerMixin, int], Mapping[str, object]] = lambda scheduler, steps: {}
    first_step: Callable[[int, float], int] = first_step

    def begin(
        self, scheduler: Any, steps: int, strength: float | None, **where: object
    ) -> torch.Tensor:
        """Make `scheduler` ready for a run; gives the timesteps of its calls."""
        scheduler.set_timesteps(steps, **where, **self.settings(scheduler, steps))
        timesteps: torch.Tensor = scheduler.timesteps
        if strength is None:
            return timesteps
        begin = self.first_step(steps, strength) * scheduler.order
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        return timesteps[begin:]


AS_IT_IS = Timing()


def noisy_image(
    scheduler: Any, image: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
) -> torch.Tensor:
    """Latents with noise on them, as the first of a run from an image; timestep: one a picture."""
    add = getattr(scheduler, "scale_noise", None)
    if add is not None:  # of flow matching
        return torch.as_tensor(add(image, timestep, noise))
    return torch.as_tensor(scheduler.add_noise(image, noise, timestep))


@dataclass(frozen=True)
class LoweredSampler:
    """Coefficients over the basis [noise, prediction 0, …, prediction R−1].

    A run from an image has its latents behind the noise: [noise, image, prediction 0, …]. With S
    vectors at the start (1 or 2), `inputs` has shape (R, S + R): row k makes call k's input
    (already scaled for the network). `result` has shape (S + R,) and makes the final latents.
    `noise` is standard normal: the scheduler's initial sigma is in the coefficients.
    `timesteps[k]` is what call k is told.
    """

    name: str
    inputs: NDArray[np.float64]
    result: NDArray[np.float64]
    timesteps: tuple[float, ...]
    from_image: bool = False

    @property
    def starts(self) -> int:
        """S: the vectors of the basis that are no predictions."""
        return 2 if self.from_image else 1

    @property
    def rows(self) -> int:
        """Rows of the history that a run writes: its predictions, and its image's latents."""
        return len(self.result) - 1  # all of the basis but the noise


def lower(
    scheduler: SchedulerMixin,
    steps: int,
    strength: float | None = None,
    timing: Timing = AS_IT_IS,
) -> LoweredSampler:
    """Probe `scheduler` over `steps` steps, from an image if there is a `strength`.

    Raises `SamplerError` if it is no fixed linear map.
    """
    run = _Run(scheduler, steps, strength, timing)
    try:
        _check_repeatable(run)
        lowered = _probe(run)
        _check_linear(run, lowered)
    except (SamplerError, AssertionError):  # refused by us, or a fault of ours
        raise
    except Exception as error:  # whatever a third-party scheduler raises, the user chose it
        raise SamplerError(
            f"{run.name} cannot be run for {steps} steps: {sanitize(error)}"
        ) from error
    return lowered


def _first_sample(
    scheduler: SchedulerMixin, timesteps: torch.Tensor, starts: torch.Tensor
) -> torch.Tensor:
    """The latents before the first call (dim,): noise alone, or the image with noise on it."""
    if len(starts) == 1:
        return starts[0] * float(getattr(scheduler, "init_noise_sigma", 1.0))
    if not (hasattr(scheduler, "add_noise") or hasattr(scheduler, "scale_noise")):
        raise SamplerError(
            f"{type(scheduler).__name__} cannot add noise to an image: remove `strength` from "
            "`sampler`, or use a scheduler such as DDIM, PNDM, Euler or DPM-Solver++"
        )
    noise, image = starts.view(2, 1, 1, 1, -1)
    noisy = noisy_image(scheduler, image, noise, timesteps[:1])
    return noisy.reshape(-1).to(torch.float64)


@dataclass(frozen=True)
class _Run:
    """Runs of one scheduler, all alike but for what they are given."""

    scheduler: Any
    steps: int
    strength: float | None
    timing: Timing

    @property
    def name(self) -> str:
        return type(self.scheduler).__name__

    @property
    def starts(self) -> int:
        """S: the vectors of the basis that are no predictions."""
        return 1 if self.strength is None else 2

    def begin(self) -> torch.Tensor:
        """Make the scheduler ready; gives the timesteps of its calls."""
        return self.timing.begin(self.scheduler, self.steps, self.strength)

    def __call__(
        self, starts: torch.Tensor, predictions: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the scheduler elementwise from `starts` (S, dim).

        Prediction k is `predictions[k]`, or basis vector S + k of dim where none are given.
        Returns the calls' inputs (R, dim) and the result (dim,).
        """
        scheduler = self.scheduler
        timesteps = self.begin()
        sample = _first_sample(scheduler, timesteps, starts)
        shape = (1, 1, 1, sample.numel())
        inputs = []
        for k, t in enumerate(timesteps):
            scaled = sample.view(shape)
            if hasattr(scheduler, "scale_model_input"):
                scaled = scheduler.scale_model_input(scaled, t)
            inputs.append(scaled.reshape(-1).clone())
            if predictions is None:
                prediction = torch.zeros_like(sample)
                prediction[len(starts) + k] = 1.0
            else:
                prediction = predictions[k]
            step = scheduler.step(prediction.view(shape), t, sample.view(shape), return_dict=False)
            sample = step[0].reshape(-1).to(torch.float64)
            if not (inputs[-1].isfinite().all() and sample.isfinite().all()):
                raise SamplerError(_not_finite(scheduler, k, timesteps))
        return torch.stack(inputs), sample


def _not_finite(scheduler: SchedulerMixin, k: int, timesteps: torch.Tensor) -> str:
    """What to say of a scheduler that gives NaN or infinity, whoever's fault that is."""
    config = scheduler.config
    known = ("solver_order", "solver_type", "algorithm_type", "final_sigmas_type")
    found = ", ".join(f"{name} {config[name]}" for name in known if name in config)
    return (
        f"{type(scheduler).__name__} gives NaN or infinity at step {k} of {len(timesteps)} "
        f"(timestep {float(timesteps[k]):g}){found and f' with {found}'}: no picture can come of "
        "these settings, in diffusers neither; choose others in `sampler`, or other steps"
    )


def _probe(run: _Run) -> LoweredSampler:
    timesteps = tuple(float(t) for t in run.begin())
    starts = run.starts
    basis = torch.eye(starts, starts + len(timesteps), dtype=torch.float64)
    inputs, result = run(basis, None)
    # An input can only depend on what came before it; anything else is a misreading of ours.
    assert not torch.triu(inputs[:, starts:]).any(), "a scheduler's coefficients are not causal"
    return LoweredSampler(
        name=run.name,
        inputs=inputs.numpy(),
        result=result.numpy(),
        timesteps=timesteps,
        from_image=starts == 2,
    )


def _check_repeatable(run: _Run) -> None:
    """Run twice on the same numbers: a deterministic scheduler gives the same bits."""
    basis = _random_basis(run)
    first, second = (run(*basis)[1] for _ in range(2))
    if not torch.equal(first, second):
        raise SamplerError(
            f"{run.name} draws noise while it samples, so its run is not a fixed "
            "program: use a deterministic scheduler such as DDIM, PNDM, Euler or DPM-Solver++"
        )


def _check_linear(run: _Run, lowered: LoweredSampler) -> None:
    """Run on large random numbers: the answer is the one that the matrix gives."""
    basis = _random_basis(run)
    first = run(*basis)[1].numpy()
    scale = np.abs(lowered.result).max() * PROBE_SCALE
    expected = lowered.result @ torch.cat(basis).numpy()
    if np.abs(first - expected).max() > LINEAR_TOLERANCE * scale:
        config = run.scheduler.config
        causes = [key for key in ("thresholding", "clip_sample") if config.get(key)]
        why = f" (`{causes[0]}` is on: set it to false in `sampler`)" if causes else ""
        given = "the image and the predictions" if lowered.from_image else "the predictions"
        raise SamplerError(
            f"{lowered.name} is not linear in {given}{why}, so it has no coefficients; "
            "use a linear scheduler such as DDIM, PNDM, Euler or DPM-Solver++"
        )


def _random_basis(run: _Run) -> tuple[torch.Tensor, torch.Tensor]:
    """Large random starts and predictions, float64, the same every time."""
    generator = torch.Generator().manual_seed(0)
    shape = (run.starts + len(run.begin()), 64)
    basis = PROBE_SCALE * torch.randn(shape, dtype=torch.float64, generator=generator)
    return basis[: run.starts], basis[run.starts :]
