"""The coefficient matrix against diffusers' own loop, with a network that is not linear."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from keepstep.exporter.errors import SamplerError
from keepstep.exporter.schedule.sampler import LoweredSampler, lower
from keepstep.exporter.schedule.scheduler import scheduler_from
from keepstep.exporter.schedule.settings import Sampler

# A scheduler folder as Stable Diffusion has it.
CONFIG = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}
# Schedulers that keep float64 throughout, and those that cast to float32 inside (`sample.to(
# torch.float32)`, or float32 sigmas of their own): there every step rounds to 6e-8 of latents that
# start 15 times as large as they end.
EXACT, SINGLE = 1e-9, 1e-5
KARRAS = {"use_karras_sigmas": True}
FLOW = "FlowMatchEulerDiscreteScheduler"
DETERMINISTIC: dict[str, tuple[str, dict[str, Any], float]] = {
    "DDIM": ("DDIMScheduler", {}, EXACT),
    "PNDM": ("PNDMScheduler", {}, EXACT),
    "Euler": ("EulerDiscreteScheduler", {}, SINGLE),
    "Heun": ("HeunDiscreteScheduler", {}, EXACT),
    "LMS": ("LMSDiscreteScheduler", {}, EXACT),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}, SINGLE),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", KARRAS, SINGLE),
    "UniPC": ("UniPCMultistepScheduler", {}, EXACT),
    "DEIS": ("DEISMultistepScheduler", {}, EXACT),
    "FlowMatchEuler": (FLOW, {}, SINGLE),
    "FlowMatchEuler shifted": (FLOW, {"shift": 3.0}, SINGLE),
}
HAS_SCIPY = find_spec("scipy") is not None
NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name == "LMS" and not HAS_SCIPY, reason="diffusers' LMS needs scipy"
        ),
    )
    for name in DETERMINISTIC
]


def scheduler(name: str, steps: int, **overrides: Any) -> Any:
    return scheduler_from(CONFIG, Sampler(scheduler=name, steps=steps, **overrides))


def toy_network(x: torch.Tensor, t: float) -> torch.Tensor:
    """Neither linear nor elementwise, and different at every timestep."""
    return torch.tanh(x.roll(1, -1) * 0.7 + x * 0.5 + t / 1000) + 0.1 * x


def diffusers_loop(sampler: Any, steps: int, noise: torch.Tensor) -> torch.Tensor:
    """The denoising loop as diffusers' pipelines write it."""
    sampler.set_timesteps(steps)
    sample = noise * sampler.init_noise_sigma if hasattr(sampler, "init_noise_sigma") else noise
    for t in sampler.timesteps:
        model_input = sample
        if hasattr(sampler, "scale_model_input"):
            model_input = sampler.scale_model_input(sample, t)
        prediction = toy_network(model_input, float(t))
        sample = sampler.step(prediction, t, sample, return_dict=False)[0]
    return sample


def matrix_run(
    lowered: LoweredSampler, network: Callable[..., torch.Tensor], *starts: torch.Tensor
) -> torch.Tensor:
    history = [*starts]
    for row, t in zip(lowered.inputs, lowered.timesteps, strict=True):
        model_input = sum(c * h for c, h in zip(row, history, strict=False))
        history.append(network(model_input, t))
    assert len(history) == len(lowered.result)
    return sum(c * h for c, h in zip(lowered.result, history, strict=True))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("name", NAMES)
def test_the_matrix_gives_what_diffusers_loop_gives(
    name: str, steps: int, prediction_type: str
) -> None:
    cls, overrides, tolerance = DETERMINISTIC[name]
    if cls != FLOW:  # flow matching has one type of prediction only
        overrides = {**overrides, "prediction_type": prediction_type}
    noise = torch.randn(1, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = diffusers_loop(scheduler(cls, steps, **overrides), steps, noise).double()
    found = matrix_run(lower(scheduler(cls, steps, **overrides), steps), toy_network, noise)
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_an_input_needs_no_prediction_that_comes_after_it(name: str) -> None:
    cls, overrides, _ = DETERMINISTIC[name]
    lowered = lower(scheduler(cls, 6, **overrides), 6)
    runs = len(lowered.timesteps)
    assert lowered.inputs.shape == (runs, 1 + runs)
    assert lowered.result.shape == (1 + runs,)
    for k in range(runs):
        assert not lowered.inputs[k, 1 + k :].any()
        assert lowered.inputs[k, : 1 + k].any()


def test_pndm_asks_once_more_than_it_has_steps_and_heun_almost_twice() -> None:
    assert len(lower(scheduler("PNDMScheduler", 50), 50).timesteps) == 51
    assert len(lower(scheduler("HeunDiscreteScheduler", 10), 10).timesteps) == 19


def test_lowering_twice_gives_the_same_bits_and_leaves_the_scheduler_usable() -> None:
    sampler = scheduler("UniPCMultistepScheduler", 8)
    first, second = lower(sampler, 8), lower(sampler, 8)
    np.testing.assert_array_equal(first.inputs, second.inputs)
    np.testing.assert_array_equal(first.result, second.result)


SDE = {"algorithm_type": "sde-dpmsolver++"}
STOCHASTIC = [
    ("DDPMScheduler", {}),
    ("EulerAncestralDiscreteScheduler", {}),
    ("LCMScheduler", {}),
    ("DPMSolverMultistepScheduler", SDE),
]


@pytest.mark.parametrize(("name", "overrides"), STOCHASTIC)
def test_a_scheduler_that_draws_noise_is_refused_by_name_and_for_that_reason(
    name: str, overrides: dict[str, Any]
) -> None:
    with pytest.raises(SamplerError, match=f"{name} draws noise .* deterministic scheduler"):
        lower(scheduler(name, 4, **overrides), 4)


@pytest.mark.parametrize("steps", [1, 2, 10])
@pytest.mark.parametrize(
    ("name", "setting"),
    [("DDIMScheduler", "clip_sample"), ("DPMSolverMultistepScheduler", "thresholding")],
)
def test_clipping_is_refused_with_the_setting_that_turns_it_off(
    name: str, setting: str, steps: int
) -> None:
    with pytest.raises(SamplerError, match=f"{name} is not linear .*`{setting}` is on: set it to"):
        lower(scheduler(name, steps, **{setting: True}), steps)
    lower(scheduler(name, steps, **{setting: False}), steps)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("DDIMSchedular", "Did you mean DDIMScheduler?"),
        ("EulerScheduler", "Scheduler?"),
        ("UNet2DConditionModel", "diffusers has no scheduler 'UNet2DConditionModel'"),
        ("__name__", "diffusers has no scheduler '__name__'"),
        ("", "diffusers has no scheduler ''"),
    ],
)
def test_an_unknown_scheduler_is_refused_with_the_closest_name(name: str, hint: str) -> None:
    with pytest.raises(SamplerError) as refused:
        scheduler(name, 4)
    assert hint in str(refused.value)


def test_a_scheduler_whose_package_is_missing_is_refused_with_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As diffusers does for LMS where scipy is not installed: it exports a stand-in."""
    stand_in = type("LMSDiscreteScheduler", (), {"_backends": ["torch", "no_such_package"]})
    monkeypatch.setattr(diffusers, "LMSDiscreteScheduler", stand_in)
    with pytest.raises(SamplerError, match="LMSDiscreteScheduler needs no_such_package: install"):
        scheduler("LMSDiscreteScheduler", 4)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"clip_samples": True}, "DDIMScheduler has no setting 'clip_samples'"),
        ({"beta_schedule": "cubic"}, "DDIMScheduler refuses its settings: cubic"),
        ({"trained_betas": 3}, "DDIMScheduler refuses its settings"),
        ({"num_train_timesteps": "many"}, "DDIMScheduler refuses its settings"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(SamplerError) as refused:
        scheduler("DDIMScheduler", 4, **overrides)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("name", "steps", "overrides"),
    [
        ("DDIMScheduler", 200, {"num_train_timesteps": 100}),
        ("DDIMScheduler", 4, {"prediction_type": "colour"}),
        ("PNDMScheduler", 1, {"skip_prk_steps": False}),
    ],
)
def test_what_a_scheduler_itself_refuses_is_refused_by_its_name(
    name: str, steps: int, overrides: dict[str, Any]
) -> None:
    with pytest.raises(SamplerError, match=f"{name} cannot be run for {steps} steps: "):
        lower(scheduler(name, steps, **overrides), steps)


@pytest.mark.parametrize(("steps", "at"), [(1, 0), (8, 7)])
def test_coefficients_that_are_no_numbers_are_refused_at_the_step_that_makes_them(
    steps: int, at: int
) -> None:
    settings = {"solver_type": "bh1", "solver_order": 3}
    words = f"UniPCMultistepScheduler gives NaN or infinity at step {at} of {steps} .*bh1.*choose"
    with pytest.raises(SamplerError, match=words):
        lower(scheduler("UniPCMultistepScheduler", steps, **settings), steps)


def test_an_override_beats_the_model_folder() -> None:
    folder = {**CONFIG, "prediction_type": "v_prediction"}
    chosen = Sampler(scheduler="DDIMScheduler", steps=4, prediction_type="epsilon")
    assert scheduler_from(folder, chosen).config.prediction_type == "epsilon"
    plain = Sampler(scheduler="DDIMScheduler", steps=4)
    assert scheduler_from(folder, plain).config.prediction_type == "v_prediction"


OF_FLOW: dict[str, Any] = {
    "use_flow_sigmas": True,
    "prediction_type": "flow_prediction",
    "flow_shift": 3.0,
}
OF_NOISE = {"_class_name": "DDIMScheduler", "prediction_type": "epsilon"}


@pytest.mark.parametrize(
    ("config", "name", "settings", "words"),
    [
        (
            {"_class_name": FLOW},
            "DDIMScheduler",
            {},
            f"{FLOW} does: use {FLOW}, or leave `scheduler` out",
        ),
        (  # takes over `prediction_type` from the model's own, and knows no flow
            {"_class_name": "DPMSolverMultistepScheduler", **OF_FLOW},
            "EulerDiscreteScheduler",
            {},
            "does not take predictions for the flow",
        ),
        ({"_class_name": FLOW}, "DPMSolverMultistepScheduler", {}, "add `use_flow_sigmas: true"),
        (
            {"_class_name": "DPMSolverMultistepScheduler", **OF_FLOW},
            "DPMSolverMultistepScheduler",
            {"prediction_type": "epsilon"},
            "add `use_flow_sigmas: true, prediction_type: flow_prediction",
        ),
        (OF_NOISE, FLOW, {}, f"{FLOW} takes predictions for the flow.*DDIMScheduler does not"),
        (OF_NOISE, "UniPCMultistepScheduler", OF_FLOW, "takes predictions for the flow"),
    ],
)
def test_a_scheduler_for_another_prediction_than_the_networks_is_refused(
    config: dict[str, Any], name: str, settings: dict[str, Any], words: str
) -> None:
    """diffusers would take it, and draw noise."""
    with pytest.raises(SamplerError, match=words):
        scheduler_from(config, Sampler(scheduler=name, steps=4, **settings))


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_solvers_with_flow_sigmas_fit_networks_that_predict_the_flow(name: str) -> None:
    made = scheduler_from({"_class_name": FLOW}, Sampler(scheduler=name, steps=4, **OF_FLOW))
    assert type(made).__name__ == name
