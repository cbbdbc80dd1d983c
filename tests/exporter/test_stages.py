"""Whole runs: stages played in torch against the eager reference of the same schedule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exporter.played import play, schedule

from keepstep.exporter.check.reference import run_eagerly
from keepstep.exporter.models import Model
from keepstep.exporter.stages.factory import StageFactory
from keepstep.exporter.stages.onnx_from_trace import onnx_from_subgraph
from keepstep.exporter.stages.time_tables import time_tables
from keepstep.exporter.stages.variant import window_for

# Float32 on both sides, in another order: about 1e-6 a step, and a few steps amplify it. With
# pruning, selections are the same unless two cosines are as close as that.
SAME = 1e-5


def start_of(model: Model, runs: int, seed: int = 4) -> dict[str, torch.Tensor]:
    grid = model.denoiser.tokens(*model.latent_shape[1:])
    assert grid
    g = torch.Generator().manual_seed(seed)
    text = (1, *model.denoiser.conditions["prompt_embeds"])
    return {
        "noise": torch.randn(1, *model.latent_shape, generator=g),
        "prompt_embeds": torch.randn(text, generator=g),
        "negative_prompt_embeds": torch.randn(text, generator=g),
        "guidance_scale": torch.tensor(3.0),
        "selection_noise": torch.randn(runs, 1, grid.rows * grid.columns, generator=g),
    }


def assert_played_as_eager(
    model: Model, factory: StageFactory, calls: str, cache: str = "", prune: str = ""
) -> None:
    written = schedule(calls, cache, prune)
    start = start_of(model, sum(letter != "." for letter in calls))
    expected = run_eagerly(
        model,
        written,
        start["noise"],
        {name: start[name] for name in ("prompt_embeds", "negative_prompt_embeds")},
        float(start["guidance_scale"]),
        start["selection_noise"],
    ).latents
    found = play(model, factory, written, start).numpy()
    assert np.abs(found - expected).max() <= SAME * np.abs(expected).max()


@pytest.mark.parametrize("cache", ["branch: 0", "branch: 1", "branch: 2", "module: mid_block"])
def test_cached_and_skipped_calls_give_what_eager_gives(
    model: Model, factory: StageFactory, cache: str
) -> None:
    assert_played_as_eager(model, factory, "Fs.sFss", cache)


@pytest.mark.parametrize(
    "prune",
    [
        "ratio: 0.5, alpha: 1",
        "ratio: 0.75, recover: kept, gamma: -1",
    ],
)
def test_pruned_calls_give_what_eager_gives(
    model: Model, factory: StageFactory, prune: str
) -> None:
    assert_played_as_eager(model, factory, "F.sFs", "branch: 0", prune)


@pytest.mark.parametrize("cache", ["branch: 0", "branch: 1", "module: up_blocks.2.attentions.0"])
def test_a_selection_shared_within_a_call_is_that_of_the_first_block_that_the_call_runs(
    model: Model, factory: StageFactory, cache: str
) -> None:
    assert_played_as_eager(model, factory, "FFsF", cache, "ratio: 0.5, similarity: call")


def test_latents_need_not_be_square(wide_model: Model) -> None:
    prune = "ratio: 0.4, patch: 4, alpha: 0.5"
    assert_played_as_eager(wide_model, StageFactory(wide_model, 1), "Fs.F", "branch: 0", prune)


def test_two_layers_a_level_and_velocities_give_what_eager_gives(
    v_prediction_model: Model,
) -> None:
    factory = StageFactory(v_prediction_model, 1)
    assert_played_as_eager(v_prediction_model, factory, "Fs.F", "branch: 1")


def test_a_model_without_attention_at_the_top_gives_what_eager_gives(
    plain_top_model: Model,
) -> None:
    assert_played_as_eager(plain_top_model, StageFactory(plain_top_model, 1), "Fs.F", "branch: 0")


@pytest.mark.parametrize(
    ("cache", "prune"),
    [
        ("branch: 0", "ratio: 0.5, alpha: 1"),  # shallow calls run no pruned block,
        ("branch: 2", "ratio: 0.5, similarity: call"),  # the last one, behind the cut,
        ("branch: 3", "ratio: 0.5, similarity: call"),  # or the first one, too
    ],
)
def test_tokens_pruned_below_the_latents_own_resolution_give_what_eager_gives(
    plain_top_model: Model, cache: str, prune: str
) -> None:
    factory = StageFactory(plain_top_model, 1)
    assert_played_as_eager(plain_top_model, factory, "FFsF", cache, prune)


@pytest.mark.parametrize(("runs", "window"), [(1, 64), (64, 64), (65, 128), (128, 128)])
def test_a_window_holds_all_predictions_and_its_length_is_shared(runs: int, window: int) -> None:
    assert window_for(runs) == window


def test_timestep_tables_have_the_rows_of_each_call_one_after_the_other(
    model: Model, factory: StageFactory
) -> None:
    stage = onnx_from_subgraph("time", factory.time().subgraph)
    read = model.checkpoint.tensor
    tables = time_tables(stage, read, (1.0, 500.0))
    singles = [time_tables(stage, read, (t,)) for t in (1.0, 500.0)]
    modules = model.denoiser.module.named_modules()
    resnets = sum(name.endswith("time_emb_proj") for name, _ in modules)
    assert len(tables) == resnets
    for name, table in tables.items():
        rows = len(table) // 2
        np.testing.assert_array_equal(table[:rows], singles[0][name])
        np.testing.assert_array_equal(table[rows:], singles[1][name])
        assert not np.array_equal(table[:rows], table[rows:])


def test_a_stage_is_made_once(factory: StageFactory) -> None:
    variant = factory.variant(schedule("F"), schedule("F").calls[0], 1)
    assert factory.network(variant) is factory.network(variant)
    assert factory.prompt() is factory.prompt()
