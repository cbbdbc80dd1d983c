"""The trained transformer that the project ships, against diffusers and in both runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import PixArtSigmaPipeline
from export.cpp_player import built, same_to_the_bit
from export.drawn import distance

from keepstep.exporter import Schedule, export
from keepstep.runtime import Bundle

MODEL = Path(__file__).parents[2] / "models" / "emoji-dit"
PROMPT = "a green heart with sleepy eyes, a smile and a top hat"
GUIDANCE_SCALE = 4.0
STEPS, LENGTH, SIDE = 20, 24, 128
TOLERANCE = 1e-4  # float32 rounding over a run; the project's bar


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    schedules = [Schedule.load(name) for name in ("full", "blocks-n3", "cat-28")]
    return export(str(MODEL), schedules, tmp_path_factory.mktemp("bundle") / "dit", verify="stages")


@pytest.fixture(scope="module")
def inputs(bundle: Bundle) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(6).standard_normal((1, 4, 32, 32), dtype=np.float32)
    with bundle.player("full") as player:
        scale = np.array(GUIDANCE_SCALE, np.float32)
        return {**player.encode(PROMPT, ""), "noise": noise, "guidance_scale": scale}


def test_full_draws_what_diffusers_draws(bundle: Bundle, inputs: dict[str, np.ndarray]) -> None:
    pipeline = PixArtSigmaPipeline.from_pretrained(MODEL)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        PROMPT,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE_SCALE,
        height=SIDE,
        width=SIDE,
        max_sequence_length=LENGTH,
        clean_caption=False,
        use_resolution_binning=False,
        latents=torch.from_numpy(inputs["noise"]),
        output_type="latent",
    ).images
    with bundle.player("full") as player:
        found = player.run(inputs)["latents"]
    assert distance(found, expected.numpy()) <= TOLERANCE


@built
@pytest.mark.parametrize("plan", ["full", "blocks-n3", "cat-28"])
def test_the_runtime_in_cpp_gives_the_same_to_the_bit(
    plan: str, bundle: Bundle, inputs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    same_to_the_bit(bundle, plan, inputs, tmp_path)
