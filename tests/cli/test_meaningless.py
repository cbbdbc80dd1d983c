"""What means nothing is refused by name and place, and never becomes a picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli.outcome import Command, refused
from cli.tiny_bundle import contents
from safetensors.numpy import load_file, save_file

RUN = ["--prompt", "a red apple", "-o", "a.png"]
FILES = ["--inputs", "in.safetensors", "--outputs", "out.safetensors"]


@pytest.fixture
def given(keepstep: Command, bundle: Path) -> dict[str, np.ndarray]:
    """What a prompt becomes, for a test to spoil."""
    assert keepstep("run", bundle, *RUN[:2], "--save-inputs", "in.safetensors").code == 0
    return load_file("in.safetensors")


def test_a_run_without_a_meaning_names_the_first_stage_and_writes_no_picture(
    keepstep: Command, bundle: Path, workplace: Path, one_thread: list[str]
) -> None:
    outcome = keepstep("run", bundle, *RUN, "--guidance-scale", "3e38", *one_thread)
    refused(outcome, "output 'latents' are NaN or infinite", "first stage", "--dtype bfloat16")
    assert contents(workplace) == {}


def test_noise_beyond_all_bounds_gives_no_arrays(
    keepstep: Command, bundle: Path, given: dict[str, np.ndarray], one_thread: list[str]
) -> None:
    given["noise"] = np.full_like(given["noise"], 3e38)
    save_file(given, "in.safetensors")
    refused(keepstep("run", bundle, *FILES, *one_thread), "the first stage to give such numbers is")
    assert not Path("out.safetensors").exists()


@pytest.mark.parametrize("id_", [-1, "vocabulary", 2**40])
def test_ids_that_the_model_has_no_embedding_for_are_refused(
    keepstep: Command,
    bundle: Path,
    given: dict[str, np.ndarray],
    id_: int | str,
    one_thread: list[str],
) -> None:
    (plan,) = json.loads(keepstep("inspect", bundle, "--json", "--plan", "full").out)["plans"]
    lowest, highest = plan["inputs"]["token_ids"]["range"]
    assert lowest == 0
    given["token_ids"][0, 1] = highest + 1 if id_ == "vocabulary" else id_
    save_file(given, "in.safetensors")
    outcome = keepstep("run", bundle, *FILES, *one_thread)
    refused(outcome, "input 'token_ids'", "at [0, 1]", f"range 0 to {int(highest)}")
    given["token_ids"][0, 1] = highest
    save_file(given, "in.safetensors")
    assert keepstep("run", bundle, *FILES, *one_thread).code == 0


def test_ranges_are_shown_with_the_inputs(keepstep: Command, bundle: Path) -> None:
    assert " 0 to " in keepstep("inspect", bundle, "--plan", "full").out
