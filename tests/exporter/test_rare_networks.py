"""Legal switches of a UNet's config that no published Stable Diffusion uses: right, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exporter.played import play, schedule
from exporter.test_stages import SAME, start_of
from models_for_tests import PICTURE, write_model

from keepstep.exporter import models
from keepstep.exporter.check.reference import run_eagerly
from keepstep.exporter.errors import ModelError
from keepstep.exporter.methods.feature_cache import FeatureCache
from keepstep.exporter.stages.factory import StageFactory

PLAYED: dict[str, dict[str, Any]] = {
    "samples in 0 … 1": {"center_input_sample": True},
    "an activated time embedding": {"time_embedding_act_fn": "silu"},
    "no mid block": {"mid_block_type": None},
    "a mid block of resnets": {"mid_block_type": "UNetMidBlock2D"},
    "cross-attention alone": {"only_cross_attention": True},
    "a width for each level": {"cross_attention_dim": (16, 16)},
    "blocks that attend without a prompt": {
        "down_block_types": ("AttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "AttnUpBlock2D"),
    },
    "resnets that resize": {
        "down_block_types": ("ResnetDownsampleBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    },
    "time that scales and shifts": {"resnet_time_scale_shift": "scale_shift"},
    "Fourier features of the time": {"time_embedding_type": "fourier"},
    "no size of its own": {"sample_size": None},
}


# The blocks that are built in another way; the others are a setting of the same ones.
QUICK = ("no mid block", "blocks that attend without a prompt", "resnets that resize")


@pytest.mark.parametrize(
    "case",
    [*QUICK, *(pytest.param(c, marks=pytest.mark.long) for c in PLAYED if c not in QUICK)],
)
def test_it_is_played_as_the_eager_network_runs(case: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", levels=2, unet=PLAYED[case])
    model = models.load(str(folder), PICTURE, PICTURE)
    factory = StageFactory(model, 1)
    assert model.denoiser.tokens(*model.latent_shape[1:])
    deepest = len(model.denoiser.cuts) - 1
    for calls, cache, prune in (
        ("Fs", f"branch: {deepest}", ""),
        ("FFs", "branch: 1", "ratio: 0.4, alpha: 0.5"),
    ):
        written = schedule(calls, cache, prune)
        start = start_of(model, runs=len(calls))
        told = {name: start[name] for name in ("prompt_embeds", "negative_prompt_embeds")}
        extra = start["selection_noise"] if prune else None
        guidance = float(start["guidance_scale"])
        expected = run_eagerly(model, written, start["noise"], told, guidance, extra).latents
        found = play(model, factory, written, start).numpy()
        np.testing.assert_allclose(found, expected, rtol=SAME, atol=SAME * np.abs(expected).max())


@pytest.mark.parametrize("case", PLAYED)
@torch.no_grad()
def test_a_shallow_call_of_it_repeats_the_full_call(case: str, tmp_path: Path) -> None:
    """Two equal calls at one timestep: the cached features are those of the call itself."""
    folder = write_model(tmp_path / "model", levels=2, unet=PLAYED[case])
    denoiser = models.load(str(folder), PICTURE, PICTURE).denoiser
    given = torch.randn(2, 4, 16, 16), torch.tensor(77), {"prompt_embeds": torch.randn(2, 8, 16)}
    for cut in denoiser.cuts:
        cache = FeatureCache(denoiser.module, cut)
        with cache.keeping():
            expected = denoiser.call(*given)
        with cache.reusing():
            assert torch.equal(denoiser.call(*given), expected), cut.name


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two prompts": ({"dual_cross_attention": True}, "dual_cross_attention is True: expected a"),
    "classes": ({"num_class_embeds": 10}, "num_class_embeds is 10: expected a network that is"),
    "places": ({"attention_type": "gated"}, "attention_type has 'gated', expected one of default"),
    "widths that differ": ({"cross_attention_dim": (16, 20)}, "the same for every level"),
    "K blocks": (
        {
            "down_block_types": ("KCrossAttnDownBlock2D", "KDownBlock2D"),
            "up_block_types": ("KUpBlock2D", "KCrossAttnUpBlock2D"),
        },
        "down_block_types has 'KCrossAttnDownBlock2D', expected one of DownBlock2D",
    ),
    "another text encoder": ({"cross_attention_dim": 24}, "gives 16 features a token, the UNet"),
    "an embedded prompt": ({"encoder_hid_dim": 16}, "encoder_hid_dim_type text_proj"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_words(case: str, tmp_path: Path) -> None:
    values, words = REFUSED[case]
    folder = write_model(tmp_path / "model", levels=2, unet=values)
    with pytest.raises(ModelError) as caught:
        models.load(str(folder), weights=False)
    assert words in str(caught.value)
