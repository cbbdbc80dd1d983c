"""Bundles whose plans start from an image: against diffusers' img2img, and against eager runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from export.drawn import GUIDANCE_SCALE, PROMPT, pipeline
from exports_for_tests import SAMPLERS

from keepstep.bench import Setting
from keepstep.bench.configurations import CompiledConfiguration
from keepstep.bench.eager import EagerConfiguration, EagerModel, Place
from keepstep.exporter import export
from keepstep.exporter.check.verify import verify
from keepstep.exporter.schedule.schema import Schedule, parse
from keepstep.runtime import Bundle, InputError

SEED = 3
STRENGTHS = {"ddim": 0.5, "pndm": 0.6, "euler": 0.5, "dpm": 0.75, "unipc": 0.5, "heun": 1.0}

# Float32 rounding over a few calls, plus 1e-7 in the coefficients of schedulers that compute
# in float32 themselves; the project's bar.
TOLERANCE = 1e-4

PNDM = "sampler: {scheduler: PNDMScheduler, steps: 10, strength: 0.6}"
CALLS = {
    "cached": ["cache: {branch: 0}", 'calls: "Fs.sF.s"'],
    "pruned": ["prune: {ratio: 0.5, alpha: 0.5}", 'calls: {repeat: "FF."}'],
    "cached-pruned": ["cache: {branch: 0}", "prune: {ratio: 0.4}", 'calls: "FsFs.ss"'],
}


def full(name: str) -> Schedule:
    settings = dict(SAMPLERS[name], strength=STRENGTHS[name])
    return parse(f"keepstep: 1\nname: {name}\nsampler: {settings}\ncalls: {{repeat: F}}")


@pytest.fixture(scope="module")
def bundle(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    schedules = [full(name) for name in STRENGTHS]
    for name, lines in CALLS.items():
        schedules.append(parse("\n".join(["keepstep: 1", f"name: {name}", PNDM, *lines])))
    schedules.append(Schedule.load("full").model_copy(update={"name": "from-noise"}))
    return export(tiny_folder, schedules, tmp_path_factory.mktemp("bundle") / "edits")


def picture(seed: int) -> np.ndarray:
    shape = (1, 32, 32, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def noise() -> torch.Tensor:
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(SEED))


def play(bundle: Bundle, name: str, init_image: np.ndarray) -> np.ndarray:
    with bundle.player(name) as player:
        given = {"noise": noise().numpy(), "init_image": init_image}
        given |= player.encode(PROMPT) | {"guidance_scale": GUIDANCE_SCALE}
        return player.run(given)["latents"].copy()


def pipeline_run(name: str, folder: Path, init_image: np.ndarray) -> np.ndarray:
    """Latents of StableDiffusionImg2ImgPipeline.

    It is given latents for an image: from a picture it would draw a sample of the posterior.
    """
    found, steps = pipeline(folder, name, image=True)
    with torch.no_grad():
        pixels = found.image_processor.preprocess(init_image / np.float32(255))
        latents = found.vae.encode(pixels).latent_dist.mode()
    result = found(
        PROMPT,
        image=latents * found.vae.config.scaling_factor,
        strength=STRENGTHS[name],
        num_inference_steps=steps,
        guidance_scale=GUIDANCE_SCALE,
        generator=torch.Generator().manual_seed(SEED),  # of which the noise is drawn first
        output_type="latent",
    )
    return np.asarray(result.images)


@pytest.mark.parametrize("name", STRENGTHS)
def test_the_full_plan_equals_the_img2img_pipeline_of_diffusers(
    name: str, bundle: Bundle, tiny_folder: Path
) -> None:
    ours = play(bundle, name, picture(0))
    theirs = pipeline_run(name, tiny_folder, picture(0))
    assert np.linalg.norm(ours - theirs) <= TOLERANCE * np.linalg.norm(theirs)


@pytest.mark.parametrize("name", [*STRENGTHS, *CALLS, "from-noise"])
def test_every_plan_equals_the_eager_run_of_its_schedule(name: str, bundle: Bundle) -> None:
    verdict = verify(bundle, name)
    assert verdict.good, verdict.sentence
    assert verdict.run
    assert verdict.run.error <= TOLERANCE


def test_a_run_leaves_no_trace_of_its_image(bundle: Bundle) -> None:
    name = "cached-pruned"
    once = play(bundle, name, picture(0))
    with bundle.player(name) as player:
        given = {"noise": noise().numpy(), "guidance_scale": GUIDANCE_SCALE}
        given |= player.encode(PROMPT)
        other = player.run(given | {"init_image": picture(1)})["latents"].copy()
        again = player.run(given | {"init_image": picture(0)})["latents"]
    np.testing.assert_array_equal(again, once)
    assert not np.allclose(other, once)


def test_the_image_is_one_more_launch_and_no_other_network_engine(bundle: Bundle) -> None:
    edit, plain = bundle.plan("ddim"), bundle.plan("from-noise")
    assert [call.stage for call in edit.calls if call.step is None] == [
        "text",
        "prompt",
        "encode",
        "decode",
    ]
    assert "encode" not in plain.stages
    assert "init_image" not in plain.values
    for stage in ("text", "prompt", "full", "decode"):
        assert edit.stages[stage].engines == plain.stages[stage].engines


def test_a_run_without_its_image_is_refused_by_the_inputs_name(bundle: Bundle) -> None:
    with bundle.player("ddim") as player:
        given = {"noise": noise().numpy(), "guidance_scale": GUIDANCE_SCALE}
        with pytest.raises(InputError, match="init_image"):
            player.run(given | player.encode(PROMPT))


def test_a_benchmark_draws_the_same_picture_from_the_image_both_ways(
    bundle: Bundle, tiny_folder: Path
) -> None:
    setting = Setting(PROMPT)
    ours = CompiledConfiguration(bundle, "cached-pruned", "onnxruntime", setting).run()
    loaded = EagerModel(str(tiny_folder), bundle, Place("cpu", "float32"))
    theirs = EagerConfiguration(bundle, "cached-pruned", loaded, setting).run()
    # Rounding to 8 bits can fall on the other side by one.
    assert np.abs(ours.image.astype(int) - theirs.image).max() <= 1
    assert {kind for kind, _ in theirs.calls} <= {kind for kind, _ in ours.calls} | {"skip"}
