"""Folding against the real scheduler, which is given the last prediction again at every skip."""

from __future__ import annotations

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstep.exporter.schedule.fold_skips import fold_skips
from keepstep.exporter.schedule.sampler import LoweredSampler, lower
from keepstep.exporter.schedule.settings import Kind

CONFIG = {"beta_schedule": "scaled_linear", "clip_sample": False, "skip_prk_steps": True}
SCHEDULERS = ["DDIMScheduler", "PNDMScheduler", "UniPCMultistepScheduler"]  # all keep float64
KINDS: list[Kind] = ["full", "shallow", "skip"]


def toy_network(x: torch.Tensor, t: float, kind: Kind) -> torch.Tensor:
    return torch.tanh(x * 0.8 + t / 1000) + (0.2 * x if kind == "full" else 0.1)


def eager(
    sampler: diffusers.SchedulerMixin, kinds: list[Kind], noise: torch.Tensor
) -> torch.Tensor:
    sample, prediction = noise * sampler.init_noise_sigma, torch.zeros_like(noise)
    for kind, t in zip(kinds, sampler.timesteps, strict=True):
        if kind != "skip":
            prediction = toy_network(sampler.scale_model_input(sample, t), float(t), kind)
        sample = sampler.step(prediction, t, sample, return_dict=False)[0]
    return sample


def played(lowered: LoweredSampler, kinds: list[Kind], noise: torch.Tensor) -> torch.Tensor:
    """What a plan does: a row of coefficients, then a launch; kinds are of the calls that run."""
    history = [noise]
    for row, t, kind in zip(lowered.inputs, lowered.timesteps, kinds, strict=True):
        history.append(toy_network(sum(c * h for c, h in zip(row, history)), t, kind))  # noqa: B905
    return sum(c * h for c, h in zip(lowered.result, history, strict=True))


@settings(max_examples=60, deadline=None)  # a busy machine is no failure
@given(data=st.data(), name=st.sampled_from(SCHEDULERS), steps=st.integers(1, 12))
def test_a_folded_schedule_gives_what_the_scheduler_gives_for_repeated_predictions(
    data: st.DataObject, name: str, steps: int
) -> None:
    sampler = getattr(diffusers, name).from_config(CONFIG)
    sampler.set_timesteps(steps)
    count = len(sampler.timesteps)
    tail = data.draw(st.lists(st.sampled_from(KINDS), min_size=count - 1, max_size=count - 1))
    kinds: list[Kind] = ["full", *tail]
    noise = torch.linspace(-2, 2, 12, dtype=torch.float64).view(1, 1, 3, 4)
    expected = eager(sampler, kinds, noise)
    running = [kind for kind in kinds if kind != "skip"]
    folded = fold_skips(lower(sampler, steps), kinds)
    found = played(folded, running, noise)
    # The same float64 sums in another order; coefficients are at most of the order of 100.
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@given(tail=st.lists(st.sampled_from(KINDS), min_size=9, max_size=9))
@settings(deadline=None)
def test_skips_leave_the_program(tail: list[Kind]) -> None:
    sampler = diffusers.DDIMScheduler.from_config(CONFIG)
    lowered = lower(sampler, 10)
    kinds: list[Kind] = ["full", *tail]
    folded = fold_skips(lowered, kinds)
    running = [t for t, kind in zip(lowered.timesteps, kinds, strict=True) if kind != "skip"]
    assert list(folded.timesteps) == running
    assert folded.inputs.shape == (len(running), 1 + len(running))
    assert folded.result.shape == (1 + len(running),)
    for k, row in enumerate(folded.inputs):
        assert not row[1 + k :].any(), "a call's input needs its own prediction or a later one"


def test_without_skips_folding_changes_nothing() -> None:
    lowered = lower(diffusers.DDIMScheduler.from_config(CONFIG), 5)
    folded = fold_skips(lowered, ["full"] * 5)
    assert (folded.inputs == lowered.inputs).all()
    assert (folded.result == lowered.result).all()


@pytest.mark.parametrize("kinds", [["skip", "full"], ["full"]])
def test_what_the_schedule_reader_refuses_is_a_fault_of_ours_here(kinds: list[Kind]) -> None:
    lowered = lower(diffusers.DDIMScheduler.from_config(CONFIG), 2)
    with pytest.raises(AssertionError):
        fold_skips(lowered, kinds)
