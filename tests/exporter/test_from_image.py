"""Runs that start from an image: coefficients, schedules and eager runs against diffusers' own."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from exporter.played import run_stage
from exporter.test_sampler import DETERMINISTIC, matrix_run, scheduler, toy_network

from keepstep.exporter.errors import SamplerError, ScheduleError
from keepstep.exporter.models import Model
from keepstep.exporter.plan.lowering import lower_schedule
from keepstep.exporter.schedule.fold_skips import fold_skips
from keepstep.exporter.schedule.sampler import lower
from keepstep.exporter.schedule.schema import Schedule, parse
from keepstep.exporter.schedule.settings import Kind
from keepstep.exporter.stages.factory import StageFactory

SAMPLERS = ["DDIM", "PNDM", "Euler", "DPM++ 2M", "UniPC", "Heun"]


def written(sampler: str, calls: str = "{repeat: F}") -> Schedule:
    return parse(f"keepstep: 1\nname: edit\nsampler: {{{sampler}}}\ncalls: {calls}")


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def diffusers_loop(
    sampler: Any,
    steps: int,
    strength: float,
    noise: torch.Tensor,
    image: torch.Tensor,
    network: Callable[..., torch.Tensor] = toy_network,
) -> torch.Tensor:
    """The loop of diffusers' img2img pipeline, which itself says which timesteps remain."""
    sampler.set_timesteps(steps)
    pipeline = SimpleNamespace(scheduler=sampler)
    timesteps, _ = StableDiffusionImg2ImgPipeline.get_timesteps(pipeline, steps, strength, "cpu")
    sample = sampler.add_noise(image, noise, timesteps[:1].repeat(len(image)))
    for t in timesteps:
        prediction = network(sampler.scale_model_input(sample, t), float(t))
        sample = sampler.step(prediction, t, sample, return_dict=False)[0]
    return sample


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("steps", "strength"), [(1, 1.0), (7, 0.3), (7, 0.6), (20, 0.05), (20, 0.75), (20, 1.0)]
)
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_matrix_gives_what_diffusers_loop_gives(
    name: str, steps: int, strength: float, prediction_type: str
) -> None:
    cls, overrides, tolerance = DETERMINISTIC[name]
    overrides = {**overrides, "prediction_type": prediction_type}
    noise, image = random(1, 2, 3, 4, seed=0), random(1, 2, 3, 4, seed=1)
    theirs = scheduler(cls, steps, **overrides)
    expected = diffusers_loop(theirs, steps, strength, noise, image).double()
    lowered = lower(scheduler(cls, steps, **overrides), steps, strength)
    found = matrix_run(lowered, toy_network, noise, image)
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_input_needs_no_prediction_that_comes_after_it(name: str) -> None:
    cls, overrides, _ = DETERMINISTIC[name]
    lowered = lower(scheduler(cls, 8, **overrides), 8, 0.5)
    runs = len(lowered.timesteps)
    assert lowered.inputs.shape == (runs, 2 + runs)
    assert lowered.result.shape == (2 + runs,)
    assert lowered.rows == 1 + runs
    for k in range(runs):
        assert not lowered.inputs[k, 2 + k :].any()
        assert lowered.inputs[k, :2].all(), "every input still holds the image and the noise"


def test_the_first_input_is_the_forward_process_at_its_timestep() -> None:
    """Ho et al. 2020, equation 4: √ᾱ of the image and √(1 − ᾱ) of the noise."""
    sampler = scheduler("DDIMScheduler", 10)
    lowered = lower(sampler, 10, 0.6)
    alpha = float(sampler.alphas_cumprod[int(lowered.timesteps[0])])
    expected = [(1 - alpha) ** 0.5, alpha**0.5]
    # The scheduler keeps its ᾱ in float32.
    np.testing.assert_allclose(lowered.inputs[0, :2], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "steps", "strength", "calls"),
    [
        ("PNDMScheduler", 50, 1.0, 51),
        ("PNDMScheduler", 50, 0.6, 31),
        ("DDIMScheduler", 50, 0.6, 30),
        ("DDIMScheduler", 50, 0.0299, 1),
        ("HeunDiscreteScheduler", 10, 1.0, 19),
        ("HeunDiscreteScheduler", 10, 0.5, 9),
    ],
)
def test_the_calls_are_those_that_remain(
    name: str, steps: int, strength: float, calls: int
) -> None:
    lowered = lower(scheduler(name, steps), steps, strength)
    assert len(lowered.timesteps) == calls
    assert lowered.timesteps == lower(scheduler(name, steps), steps).timesteps[-calls:]


def test_a_scheduler_starts_from_noise_again_after_it_started_from_an_image() -> None:
    sampler = scheduler("EulerDiscreteScheduler", 8)
    before, _, after = lower(sampler, 8), lower(sampler, 8, 0.5), lower(sampler, 8)
    assert not before.from_image
    np.testing.assert_array_equal(before.inputs, after.inputs)
    np.testing.assert_array_equal(before.result, after.result)


@pytest.mark.parametrize("name", ["DDIM", "PNDM", "UniPC"])
def test_skips_fold_behind_the_image(name: str) -> None:
    cls, overrides, tolerance = DETERMINISTIC[name]
    noise, image = random(1, 2, 3, 4, seed=0), random(1, 2, 3, 4, seed=1)
    lowered = lower(scheduler(cls, 10, **overrides), 10, 0.7)
    kinds: list[Kind] = ["full" if k % 3 == 0 else "skip" for k in range(len(lowered.timesteps))]
    predictions: list[torch.Tensor] = []

    def repeating(x: torch.Tensor, t: float) -> torch.Tensor:
        full = kinds[len(predictions)] == "full"
        predictions.append(toy_network(x, t) if full else predictions[-1])
        return predictions[-1]

    theirs = scheduler(cls, 10, **overrides)
    expected = diffusers_loop(theirs, 10, 0.7, noise, image, repeating)
    folded = fold_skips(lowered, kinds)
    found = matrix_run(folded, toy_network, noise, image)
    assert folded.inputs.shape == (kinds.count("full"), 2 + kinds.count("full"))
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


def test_a_scheduler_that_adds_no_noise_to_images_is_refused() -> None:
    name = "IPNDMScheduler"
    with pytest.raises(SamplerError, match=f"{name} cannot add noise to an image: remove `str"):
        lower(scheduler(name, 4), 4, 0.5)


def test_noise_that_is_added_otherwise_than_linearly_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sampler = scheduler("DDIMScheduler", 4)
    add_noise = sampler.add_noise

    def clipping(image: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return add_noise(image.clamp(-3, 3), noise, t)

    monkeypatch.setattr(sampler, "add_noise", clipping)
    with pytest.raises(SamplerError, match="DDIMScheduler is not linear in the image and the"):
        lower(sampler, 4, 0.5)


@pytest.mark.parametrize("strength", ["0", "-0.5", "1.01", ".nan", "true", "'0.5'"])
def test_a_strength_is_a_number_above_0_up_to_1(strength: str) -> None:
    with pytest.raises(ScheduleError, match=r"`sampler.strength`"):
        written(f"scheduler: DDIMScheduler, steps: 10, strength: {strength}")


def test_a_strength_that_leaves_no_step_is_refused_with_the_least_that_would() -> None:
    with pytest.raises(ScheduleError, match=r"strength 0.01 leaves none of 50 steps: .* 1/50"):
        written("scheduler: DDIMScheduler, steps: 50, strength: 0.01")
    written("scheduler: DDIMScheduler, steps: 50, strength: 0.02")


def test_a_strength_is_written_and_read_again_and_overrides_no_setting() -> None:
    schedule = written("scheduler: DDIMScheduler, steps: 10, strength: 0.6")
    assert schedule.sampler.strength == 0.6
    assert schedule.sampler.overrides == {}
    assert parse(schedule.to_yaml()) == schedule
    assert "strength" not in written("scheduler: DDIMScheduler, steps: 10").to_yaml()


def test_calls_that_do_not_fit_what_remains_are_refused_with_the_strength(
    model: Model, factory: StageFactory
) -> None:
    sampler = "scheduler: PNDMScheduler, steps: 5, strength: 0.6"
    words = "lists 5 calls, but PNDMScheduler with 5 steps at strength 0.6 asks the network 4"
    with pytest.raises(ScheduleError, match=words):
        lower_schedule(model, factory, written(sampler, "FFFFF"))
    assert len(lower_schedule(model, factory, written(sampler, "FF.F")).variants) == 3


@pytest.mark.parametrize(("strength", "window"), [("", 64), (", strength: 1.0", 128)])
def test_the_window_has_room_for_the_image(
    strength: str, window: int, model: Model, factory: StageFactory
) -> None:
    sampler = f"scheduler: DDIMScheduler, clip_sample: false, steps: 64{strength}"
    lowered = lower_schedule(model, factory, written(sampler))
    assert {variant.window for variant in lowered.variants} == {window}


def test_the_encoder_gives_the_mode_of_the_posterior_twice(
    model: Model, factory: StageFactory
) -> None:
    _, h, w = model.latent_shape
    shape = (1, model.height, model.width, 3)
    picture = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(3))
    given = {"init_image": picture.to(torch.uint8)}
    found = run_stage(model, factory.encode(), given)["latents"]
    with torch.no_grad():
        x = picture.permute(0, 3, 1, 2).double() / 255 * 2 - 1  # diffusers' VaeImageProcessor
        expected = model.autoencoder.module.encode(x.float()).latent_dist.mode() * 0.18215
    assert found.shape == (1, 2, 1, 4, h, w)
    # The same modules; pixels differ by the rounding of one division.
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(found[0, 0], found[0, 1])
