"""VAEs that tell the mean and deviation of their latents (Playground v2.5), against diffusers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from export.drawn import PROMPT, distance, drawn, pipeline, played
from exports_for_tests import SAMPLERS, with_sampler
from models_for_tests import PICTURE, write_model, write_xl_model

from keepstep.exporter import export, models
from keepstep.exporter.errors import ModelError
from keepstep.exporter.schedule.schema import parse
from keepstep.runtime import Bundle

# Float32 rounding over eight calls, plus 1e-7 in the coefficients of Euler; the project's bar.
TOLERANCE = 1e-4
FULL = with_sampler("euler")
EDIT = parse(
    f"keepstep: 1\nname: edit\nsampler: {dict(SAMPLERS['euler'], strength=0.5)}\n"
    "calls: {repeat: F}"
)
STATISTICS = {"latents_mean": [-1.6, 1.9, 1.3, -3.2], "latents_std": [8.4, 5.9, 5.3, 5.4]}
IDS = np.array([[PICTURE, PICTURE, 0, 0, PICTURE, PICTURE]], np.float32)
SIZES = {"time_ids": IDS, "negative_time_ids": IDS}


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    folder = tmp_path_factory.mktemp("model")
    write_xl_model(folder / "xl", statistics=STATISTICS)
    return folder / "xl", export(folder / "xl", [FULL, EDIT], folder / "bundle")


def test_an_xl_picture_is_decoded_with_the_statistics(xl: tuple[Path, Bundle]) -> None:
    folder, bundle = xl
    ours = played(bundle, FULL.name, **SIZES)["image"]
    theirs = drawn(folder, FULL.name, height=PICTURE, width=PICTURE, output_type="np")
    # Rounding to 8 bits can fall on the other side by one.
    assert np.abs(ours - theirs * 255).max() <= 1


def test_a_picture_to_start_from_is_encoded_with_the_statistics(
    xl: tuple[Path, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, bundle = xl
    # The plan starts from the mode of the posterior; the pipeline would draw from it.
    monkeypatch.setattr(
        DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode()
    )
    picture = np.random.default_rng(0).integers(0, 256, (1, PICTURE, PICTURE, 3), dtype=np.uint8)
    found, steps = pipeline(folder, "euler", image=True)
    theirs = found(
        PROMPT,
        image=torch.from_numpy(picture / np.float32(255)).permute(0, 3, 1, 2),
        strength=0.5,
        num_inference_steps=steps,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
    ).images
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3)).numpy()
    ours = played(bundle, EDIT.name, init_image=picture, noise=noise, **SIZES)["latents"]
    assert distance(ours, np.asarray(theirs)) <= TOLERANCE


def test_statistics_are_left_out_where_the_pipeline_leaves_them_out(tmp_path: Path) -> None:
    """StableDiffusionPipeline does not know of them, nor of a shift."""
    folder = write_model(tmp_path / "sd", levels=2, statistics=STATISTICS | {"shift_factor": 0.5})
    bundle = export(folder, [FULL], tmp_path / "bundle")
    theirs = drawn(folder, FULL.name, output_type="np")
    assert np.abs(played(bundle, FULL.name)["image"] - theirs * 255).max() <= 1


def test_statistics_of_other_channels_are_refused(tmp_path: Path) -> None:
    wrong = STATISTICS | {"latents_std": [1.0, 2.0]}
    folder = write_xl_model(tmp_path / "xl", statistics=wrong)
    with pytest.raises(ModelError, match="latents_std has 2 numbers, expected one for each of the"):
        models.load(str(folder), weights=False)
