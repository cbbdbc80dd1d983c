"""Runs of transformers from an image equal diffusers' own image-to-image pipelines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from export.drawn import distance
from transformers_for_tests import LATENT, T5_LENGTH, write_flux, write_sd3

from keepstep.exporter import export
from keepstep.exporter.check.verify import verify
from keepstep.exporter.schedule.schema import Schedule, parse
from keepstep.runtime import Bundle

TOLERANCE = 1e-4  # float32 rounding over a few calls; the project's bar
CACHED_TOLERANCE = 1e-3  # the project's bar for cached plans
PROMPT, NEGATIVE = "A Red apple", "r"
SCALE = 4.0
SEED = 3
STEPS = 7
SIDE = 2 * LATENT  # of the picture, pixels
# Both pipelines make a whole number of calls of strength times steps; 7 · 0.6 is none.
STRENGTHS = {"half": 0.6, "all": 1.0}
OF_FLOW = "use_flow_sigmas: true, prediction_type: flow_prediction, flow_shift: 3.0"
DPM = f"scheduler: DPMSolverMultistepScheduler, {OF_FLOW}"


@dataclass(frozen=True)
class Case:
    """A family's folder, diffusers' pipeline, and how it is called beside the prompt."""

    write: Callable[[Path], Path]
    pipeline: str
    how: Mapping[str, object]
    channels: int


CASES = {
    "sd3": Case(write_sd3, "StableDiffusion3Img2ImgPipeline", {"negative_prompt": NEGATIVE}, 8),
    "flux": Case(write_flux, "FluxImg2ImgPipeline", {}, 4),
}


def schedule(name: str, strength: float, settings: str = "") -> Schedule:
    sampler = ", ".join(filter(None, [settings, f"steps: {STEPS}, strength: {strength}"]))
    lines = ("keepstep: 1", f"name: {name}", f"sampler: {{{sampler}}}", "calls: {repeat: F}")
    return parse("\n".join(lines))


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def folder(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return case.write(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    sampler = f"{{steps: {STEPS}, strength: 0.6}}"
    lines = ("keepstep: 1", "name: cached", f"sampler: {sampler}", "cache: {blocks: [1, 1]}")
    cached = parse("\n".join([*lines, "calls: {repeat: Fs}"]))
    runs = [schedule(name, strength) for name, strength in STRENGTHS.items()]
    runs.append(schedule("dpm", 0.6, DPM))
    out = tmp_path_factory.mktemp("bundle") / "edits"
    return export(folder, [*runs, cached], out, height=SIDE, width=SIDE)


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)


def drawn(folder: Path, case: Case, strength: float) -> np.ndarray:
    """Latents of diffusers' pipeline, which is given latents for an image: from a picture it would
    draw a sample of the posterior."""
    found: Any = getattr(diffusers, case.pipeline).from_pretrained(folder)
    found.set_progress_bar_config(disable=True)
    with torch.no_grad():
        pixels = found.image_processor.preprocess(picture() / np.float32(255))
        encoded = found.vae.encode(pixels).latent_dist.mode()
    config = found.vae.config
    latents = found(
        prompt=PROMPT,
        image=(encoded - config.shift_factor) * config.scaling_factor,
        height=SIDE,
        width=SIDE,
        strength=strength,
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        max_sequence_length=T5_LENGTH,
        generator=torch.Generator().manual_seed(SEED),  # of which the noise is drawn first
        output_type="latent",
        **case.how,
    ).images
    if isinstance(found, diffusers.FluxImg2ImgPipeline):
        latents = found._unpack_latents(latents, SIDE, SIDE, found.vae_scale_factor)
    return np.asarray(latents)


def played(bundle: Bundle, case: Case, name: str) -> np.ndarray:
    shape = (1, case.channels, LATENT, LATENT)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(SEED)).numpy()
    with bundle.player(name) as player:
        guided = "negative_token_ids" in player.inputs
        given = {**player.encode(PROMPT, NEGATIVE if guided else None), "noise": noise}
        if "guidance_scale" in player.inputs:
            given["guidance_scale"] = np.array(SCALE, np.float32)
        return player.run({**given, "init_image": picture()})["latents"].copy()


@pytest.mark.parametrize("name", STRENGTHS)
def test_the_full_plan_equals_the_img2img_pipeline_of_diffusers(
    name: str, case: Case, folder: Path, bundle: Bundle
) -> None:
    theirs = drawn(folder, case, STRENGTHS[name])
    assert distance(played(bundle, case, name), theirs) <= TOLERANCE


@pytest.mark.parametrize("name", ["dpm", "cached"])
def test_other_plans_equal_the_eager_run(name: str, bundle: Bundle) -> None:
    """Diffusers' pipelines take no other scheduler than their own for a start from an image."""
    verdict = verify(bundle, name)
    assert verdict.good, verdict.sentence
    assert verdict.run
    assert verdict.run.error <= CACHED_TOLERANCE
