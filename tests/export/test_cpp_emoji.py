"""The C++ runtime gives what the Python one gives for a real model, to the last bit.

Both run the same library, so there is no rounding to allow for.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from keepstep.cli.play import Request, inputs_of, save_inputs
from keepstep.runtime import Bundle

BUILT = Path(__file__).parents[2] / "build" / "cpp"
TOOL = BUILT / "address" / "tool" / "keepstep-run"
# `make test-cpp` builds it against the installed package, from a copy of the examples outside.
OUTSIDE = BUILT / "address" / "tests" / "embedding" / "build" / "terse"
TOY = Path(__file__).parents[1] / "bundles" / "toy"
REQUEST = Request("a red apple", seed=4)


def runs_engines(tool: Path) -> bool:
    """Whether a program is there, and of a build that has ONNX Runtime."""
    if not tool.exists():
        return False
    listed = subprocess.run(
        [tool, TOY, "--list", "--json"], capture_output=True, text=True, timeout=60
    )
    return listed.returncode == 0 and "onnxruntime" in json.loads(listed.stdout)["backends"]


pytestmark = pytest.mark.skipif(
    not runs_engines(TOOL), reason="`make test-cpp` has built no keepstep-run with ONNX Runtime"
)


def play(*arguments: object) -> None:
    line = [str(argument) for argument in arguments]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("plan", [pytest.param("full", marks=pytest.mark.long), "dato-coco"])
def test_golden_inputs_give_pythons_outputs_to_the_bit(
    plan: str, emoji_bundle: Bundle, tmp_path: Path
) -> None:
    golden = emoji_bundle.golden(plan)
    with emoji_bundle.player(plan) as player:
        inputs = {name: golden[f"inputs.{name}"] for name in player.inputs}
        expected = player.run(inputs)
    save_file(inputs, tmp_path / "in.safetensors")
    given, written = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    play(TOOL, emoji_bundle.path, "--plan", plan, "--inputs", given, "--outputs", written)
    found = load_file(written)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].tobytes() == array.tobytes(), name


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
