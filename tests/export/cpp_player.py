"""Plays plans of real bundles with the C++ runtime, where `make test-cpp` has built its tool."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from keepstep.runtime import Bundle

BUILT = Path(__file__).parents[2] / "build" / "cpp"
TOOL = BUILT / "address" / "tool" / "keepstep-run"
TOY = Path(__file__).parents[1] / "bundles" / "toy"


def runs_engines(tool: Path) -> bool:
    """Whether a program is there, and of a build that has ONNX Runtime."""
    if not tool.exists():
        return False
    listed = subprocess.run(
        [tool, TOY, "--list", "--json"], capture_output=True, text=True, timeout=60
    )
    return listed.returncode == 0 and "onnxruntime" in json.loads(listed.stdout)["backends"]


built = pytest.mark.skipif(
    not runs_engines(TOOL), reason="`make test-cpp` has built no keepstep-run with ONNX Runtime"
)


def play(*arguments: object) -> None:
    """Run a program of the C++ runtime to its end, which must be a good one."""
    line = [str(argument) for argument in arguments]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr


def same_to_the_bit(
    bundle: Bundle, plan: str, inputs: Mapping[str, np.ndarray], folder: Path
) -> None:
    """Both runtimes run the same library, so there is no rounding to allow for."""
    with bundle.player(plan) as player:
        expected = player.run(dict(inputs))
    save_file({name: np.asarray(x) for name, x in inputs.items()}, folder / "in.safetensors")
    given, written = folder / "in.safetensors", folder / "out.safetensors"
    play(TOOL, bundle.path, "--plan", plan, "--inputs", given, "--outputs", written)
    found = load_file(written)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].tobytes() == array.tobytes(), name
