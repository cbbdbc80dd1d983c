"""The C++ runtime gives what the Python one gives for a real model, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from export.cpp_player import BUILT, built, play, same_to_the_bit
from PIL import Image

from keepstep.cli.play import Request, inputs_of, save_inputs
from keepstep.runtime import Bundle

# `make test-cpp` builds it against the installed package, from a copy of the examples outside.
OUTSIDE = BUILT / "address" / "tests" / "embedding" / "build" / "terse"
REQUEST = Request("a red apple", seed=4)
pytestmark = built


@pytest.mark.parametrize("plan", [pytest.param("full", marks=pytest.mark.long), "dato-coco"])
def test_golden_inputs_give_pythons_outputs_to_the_bit(
    plan: str, emoji_bundle: Bundle, tmp_path: Path
) -> None:
    golden = emoji_bundle.golden(plan)
    with emoji_bundle.player(plan) as player:
        inputs = {name: golden[f"inputs.{name}"] for name in player.inputs}
    same_to_the_bit(emoji_bundle, plan, inputs, tmp_path)


@pytest.mark.skipif(not OUTSIDE.exists(), reason="`make test-cpp` has built no examples outside")
def test_a_project_outside_of_the_tree_draws_pythons_picture(
    samplers_bundle: Bundle, tmp_path: Path
) -> None:
    plan = samplers_bundle.plans[0]  # what the shortest example plays
    with samplers_bundle.player(plan) as player:
        given = inputs_of(player, REQUEST)
        save_inputs(player, given, tmp_path / "in.safetensors")
        expected = player.run(given)["image"]
    drawn = tmp_path / "apple.ppm"
    play(OUTSIDE, samplers_bundle.path, "onnxruntime", tmp_path / "in.safetensors", drawn)
    assert np.array_equal(np.asarray(Image.open(drawn)), expected[0])
