"""What no negative prompt means to SDXL, and tokens of several vectors, against diffusers."""

from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from export.drawn import distance, drawn, played
from exports_for_tests import with_sampler
from models_for_tests import PICTURE, TEXT_WIDTH, write_model, write_xl_model
from safetensors.torch import save_file

from keepstep.exporter import export
from keepstep.runtime import Bundle

# Float32 rounding over eight calls, plus 1e-7 in the coefficients of Euler; the project's bar.
TOLERANCE = 1e-4
FULL = with_sampler("euler")
SIZE = {"height": PICTURE, "width": PICTURE}
IDS = np.array([[PICTURE, PICTURE, 0, 0, PICTURE, PICTURE]], np.float32)
SIZES = {"time_ids": IDS, "negative_time_ids": IDS}


@pytest.fixture(scope="module", params=[True, False], ids=["zeros", "embedded"])
def xl(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Bundle]:
    """Models that differ in what no negative prompt means."""
    folder = tmp_path_factory.mktemp("model")
    write_xl_model(folder / "xl", zeros_for_empty=request.param)
    return folder / "xl", export(folder / "xl", [FULL], folder / "bundle")


@pytest.mark.parametrize("negative", [None, "", "a dog"], ids=["none", "empty", "given"])
def test_an_xl_plan_takes_a_negative_prompt_as_the_pipeline_does(
    negative: str | None, xl: tuple[Path, Bundle]
) -> None:
    folder, bundle = xl
    ours = played(bundle, FULL.name, negative_prompt=negative, **SIZES)["latents"]
    theirs = drawn(folder, FULL.name, negative_prompt=negative, **SIZE)
    assert distance(ours, theirs) <= TOLERANCE


def test_a_plan_asks_whether_there_is_a_negative_prompt_only_where_that_matters(
    xl: tuple[Path, Bundle],
) -> None:
    folder, bundle = xl
    none, empty = (
        played(bundle, FULL.name, negative_prompt=negative, **SIZES)["latents"]
        for negative in (None, "")
    )
    asks = "negative_prompt_given" in bundle.plan(FULL.name).values
    assert asks == ('"force_zeros_for_empty_prompt": true' in read(folder))
    assert (distance(none, empty) > 100 * TOLERANCE) == asks


def read(folder: Path) -> str:
    return (folder / "model_index.json").read_text()


@pytest.mark.long  # all stages of a batch are its own
def test_a_batch_may_have_negative_prompts_for_some_of_its_pictures(tmp_path: Path) -> None:
    folder = write_xl_model(tmp_path / "xl")
    bundle = export(folder, [FULL], tmp_path / "bundle", batch=2, verify="none")
    with bundle.player(FULL.name, threads=1) as player:
        one = np.random.default_rng(0).standard_normal((1, 4, 16, 16), dtype=np.float32)
        told = player.encode(["a", "a"], ["b", "b"]) | {
            "noise": np.concatenate([one, one]),
            "guidance_scale": np.float32(4),
            "time_ids": np.concatenate([IDS, IDS]),
            "negative_time_ids": np.concatenate([IDS, IDS]),
        }
        given, neither = (
            player.run(told | {"negative_prompt_given": np.array(which)})["latents"]
            for which in ([True, True], [False, False])
        )
        mixed = player.run(told | {"negative_prompt_given": np.array([True, False])})["latents"]
    # A picture's numbers do not depend on its neighbour's, but for the order of sums.
    np.testing.assert_allclose(mixed[0], given[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mixed[1], neither[1], rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def inverted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """A model with textual inversions of three vectors and of one, saved with its pipeline."""
    folder = tmp_path_factory.mktemp("model")
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        write_model(folder / "plain", levels=2)
    )
    made = torch.Generator().manual_seed(0)
    for token, vectors in (("<style>", 3), ("<one>", 1)):
        file = folder / f"{token[1:-1]}.safetensors"
        save_file({token: torch.randn(vectors, TEXT_WIDTH, generator=made)}, str(file))
        pipeline.load_textual_inversion(file, token=token)
    pipeline.save_pretrained(folder / "taught")
    return folder / "taught", export(folder / "taught", [FULL], folder / "bundle")


@pytest.mark.parametrize(
    ("prompt", "negative"),
    [
        ("<style>", None),
        ("a <style>", "b"),
        ("a", "<style> b"),
        ("a <one>", "<one>"),
        ("<one> <style>", "a <style> <style>"),
    ],
)
def test_a_token_of_several_vectors_stands_for_all_of_them(
    prompt: str, negative: str | None, inverted: tuple[Path, Bundle]
) -> None:
    folder, bundle = inverted
    ours = played(bundle, FULL.name, prompt=prompt, negative_prompt=negative)["latents"]
    theirs = drawn(folder, FULL.name, prompt=prompt, negative_prompt=negative)
    assert distance(ours, theirs) <= TOLERANCE
