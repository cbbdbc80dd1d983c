"""The eager reference against diffusers' own pipeline, and against itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline
from exporter.played import schedule
from exporter.test_stages import start_of

from keepstep.exporter.check.reference import EagerRun, run_eagerly
from keepstep.exporter.methods.attach import CallContext
from keepstep.exporter.methods.feature_cache import FeatureCache, watched
from keepstep.exporter.models import Model
from keepstep.exporter.models.denoiser import Site
from keepstep.exporter.schedule.schema import Schedule, parse

PROMPTS = ["a red apple", "a blue fox"]
GUIDANCE = 4.0


def eager(model: Model, written: Schedule, noise: torch.Tensor) -> EagerRun:
    return run_eagerly(model, written, noise, model.embed(PROMPTS, ["", ""]), GUIDANCE)


def start_noise(model: Model) -> torch.Tensor:
    shape = (len(PROMPTS), *model.latent_shape)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("PNDMScheduler", None),
        ("DDIMScheduler", DDIMScheduler),
        ("EulerDiscreteScheduler", EulerDiscreteScheduler),
    ],
)
@pytest.mark.parametrize("model_name", ["model", "v_prediction_model"])
def test_a_full_schedule_is_the_pipeline_of_diffusers(
    request: pytest.FixtureRequest, model_name: str, name: str, cls: type | None
) -> None:
    folder: Path = request.getfixturevalue(f"{model_name}_folder")
    model: Model = request.getfixturevalue(model_name)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    if cls:
        pipeline.scheduler = cls.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    noise = start_noise(model)
    expected = pipeline(
        PROMPTS,
        negative_prompt=["", ""],
        num_inference_steps=5,
        guidance_scale=GUIDANCE,
        latents=noise.clone(),
        output_type="latent",
    ).images
    clip = ", clip_sample: false" if name == "DDIMScheduler" else ""
    full = parse(
        "keepstep: 1\nname: full\ncalls: {repeat: F}\n"
        f"sampler: {{scheduler: {name}, steps: 5{clip}}}"
    )
    found = eager(model, full, noise)
    # The same modules on the same numbers; only the batch's order of additions may differ.
    np.testing.assert_allclose(found.latents, expected.numpy(), rtol=1e-5, atol=1e-5)
    decoded = pipeline.vae.decode(expected / pipeline.vae.config.scaling_factor).sample
    pictures = pipeline.image_processor.postprocess(decoded.detach(), output_type="np")
    # Rounding to 8 bits can fall on the other side by one.
    assert np.abs(found.image - pictures * 255).max() <= 1


@pytest.mark.parametrize("branch", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["model", "v_prediction_model", "plain_top_model"])
@torch.no_grad()
def test_leaving_out_the_deep_modules_is_replacing_the_cut_modules_output(
    request: pytest.FixtureRequest, name: str, branch: int
) -> None:
    """Shallow calls leave modules out; the oracle runs all and replaces one output."""
    model: Model = request.getfixturevalue(name)
    unet = model.denoiser.module
    cut = model.denoiser.cuts[branch]
    first, second = (call_arguments(model, seed) for seed in (8, 9))
    cache = FeatureCache(unet, cut)
    with cache.keeping(), watched(unet, [Site(cut.name)]) as seen:
        unet(*first)
    (kept,) = seen.values()

    def replace(_module: object, _args: object, out: object) -> object:
        return kept if isinstance(out, torch.Tensor) else (kept,)

    hook = unet.get_submodule(cut.name).register_forward_hook(replace)
    expected = unet(*second).sample
    hook.remove()
    with cache.reusing():
        found = unet(*second).sample
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(found, unet(*second).sample, atol=1e-3), "it went on from nothing"


@torch.no_grad()
def test_a_shallow_call_runs_no_deep_module_and_leaves_the_network_as_it_was(model: Model) -> None:
    unet = model.denoiser.module
    arguments = call_arguments(model, 8)
    expected = unet(*arguments).sample
    for cut in model.denoiser.cuts:
        cache = FeatureCache(unet, cut)
        with cache.keeping():
            unet(*arguments)
        ran: list[str] = []
        hooks = [
            module.register_forward_hook(lambda *_, path=path, to=ran: to.append(path))
            for path, module in unet.named_modules()
            if not list(module.children())
        ]
        with cache.reusing():
            assert torch.equal(unet(*arguments).sample, expected), cut.name
        for hook in hooks:
            hook.remove()
        assert ran and not any(cut.leaves_out(path) for path in ran)
    assert torch.equal(unet(*arguments).sample, expected)


def call_arguments(model: Model, seed: int) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    sample = torch.randn(2, *model.latent_shape, generator=g)
    prompt = torch.randn(2, *model.denoiser.conditions["prompt_embeds"], generator=g)
    return sample, torch.tensor(77), prompt


def test_a_skipped_call_runs_nothing_and_uses_the_last_prediction(model: Model) -> None:
    calls = []
    hook = model.denoiser.module.conv_in.register_forward_hook(lambda *_: calls.append(1))
    run = eager(model, schedule("F..F"), start_noise(model))
    hook.remove()
    assert len(calls) == 2
    assert [kind for kind, _ in run.seconds] == ["full", "skip", "skip", "full", "decode"]


def test_scores_compare_the_two_last_calls_that_ran(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zero until two predictions exist; skips neither count nor reset."""
    scores: list[np.ndarray] = []
    predictions: list[np.ndarray] = []
    begin = CallContext.begin

    def recording(self: CallContext, score: torch.Tensor) -> None:
        scores.append(score.numpy().copy())
        begin(self, score)

    monkeypatch.setattr(CallContext, "begin", recording)
    last = model.denoiser.module.conv_out  # of full and shallow calls alike
    hook = last.register_forward_hook(lambda _m, _a, out: predictions.append(out.numpy()))
    prune = "ratio: 0.4, gamma: 1.5, alpha: 0.5"
    written = schedule("F.Fs.F", "branch: 0", prune)
    start = start_of(model, runs=4)
    extra = start["selection_noise"]
    told = {name: start[name] for name in ("prompt_embeds", "negative_prompt_embeds")}
    run_eagerly(model, written, start["noise"], told, GUIDANCE, extra)
    hook.remove()
    assert len(scores) == len(predictions) == 4
    for run, score in enumerate(scores):
        expected = 0.5 * extra[run].numpy()
        if run >= 2:
            newest, older = predictions[run - 1][:1], predictions[run - 2][:1]  # unconditional
            expected = expected + 1.5 * np.abs(newest - older).mean(axis=1).reshape(1, -1)
        np.testing.assert_allclose(score, expected, rtol=1e-5, atol=1e-6)
