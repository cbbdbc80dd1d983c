"""`keepstep run --save-inputs`: what a prompt becomes, for programs that have no tokenizer."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from cli.conditioned_bundle import write_conditioned_bundle
from cli.outcome import Command, refused
from cli.tiny_bundle import contents, seal
from PIL import Image
from safetensors.numpy import load_file

from keepstep.runtime import Bundle, Player

PROMPT = ["--prompt", "a red apple", "--negative-prompt", "b", "--seed", "3"]
SAVE = ["--save-inputs", "in.safetensors"]


def test_the_arrays_give_the_picture_of_their_prompt(
    keepstep: Command, bundle: Path, one_thread: list[str]
) -> None:
    outcome = keepstep("run", bundle, *PROMPT, *SAVE, "-o", "a.png", *one_thread)
    assert (outcome.code, outcome.err) == (0, "")
    assert re.fullmatch(r"a\.png: full, .* s\nin\.safetensors: inputs of full\n", outcome.out)
    files = ["--inputs", "in.safetensors", "--outputs", "out.safetensors"]
    assert keepstep("run", bundle, *files, *one_thread).code == 0
    with Image.open("a.png") as picture:
        assert np.array_equal(np.asarray(picture), load_file("out.safetensors")["image"][0])


def test_the_arrays_have_the_types_of_the_plan_and_hold_what_was_asked_for(
    keepstep: Command, bundle: Path, workplace: Path
) -> None:
    outcome = keepstep("run", bundle, *PROMPT, "--guidance-scale", "7.5", *SAVE)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "in.safetensors: inputs of full\n"
    assert list(contents(workplace)) == ["in.safetensors"]
    saved = load_file("in.safetensors")
    with Bundle.open(bundle).player("full", "null") as player:
        assert saved.keys() == player.inputs.keys()
        for name, type_ in player.inputs.items():
            assert (saved[name].dtype.name, saved[name].shape) == (type_.dtype, type_.shape)
        for name, ids in player.encode("a red apple", "b").items():
            assert np.array_equal(saved[name], ids)
    assert saved["guidance_scale"] == 7.5
    noise = np.random.default_rng(3).standard_normal(saved["noise"].shape, dtype=np.float32)
    assert np.array_equal(saved["noise"], noise)


def test_without_a_picture_no_engine_is_needed(keepstep: Command, damaged: Path) -> None:
    for engine in (damaged / "stages").iterdir():
        engine.write_bytes(bytes(engine.stat().st_size))
    seal(damaged)
    assert keepstep("run", damaged, *PROMPT, *SAVE).code == 0
    assert Path("in.safetensors").exists()


def test_pictures_and_sizes_are_among_the_arrays(keepstep: Command, tmp_path: Path) -> None:
    toy = write_conditioned_bundle(tmp_path / "conditioned")
    Image.new("RGB", (8, 8), (10, 20, 30)).save("photo.png")
    start = ["--plan", "copy", "--init-image", "photo.png"]
    assert keepstep("run", toy, "--prompt", "a", *start, *SAVE).code == 0
    picture = load_file("in.safetensors")["init_image"]
    assert picture.dtype == np.uint8
    assert (picture == (10, 20, 30)).all()
    assert keepstep("run", toy, "--prompt", "a", "--plan", "sizes", *SAVE).code == 0
    assert load_file("in.safetensors")["time_ids"].tolist() == [[4, 2, 0, 0, 4, 2]] * 2


def test_an_interrupted_run_leaves_no_arrays(
    keepstep: Command, bundle: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Player, "run", interrupted)
    assert keepstep("run", bundle, *PROMPT, *SAVE, "-o", "a.png").code == 130
    assert contents(workplace) == {}


REFUSED = {
    "with arrays": (["--inputs", "x", "--outputs", "y.safetensors", *SAVE], "goes with --prompt"),
    "another ending": ([*PROMPT, "--save-inputs", "in.bin"], "in.bin: expected a name that ends"),
    "no folder": ([*PROMPT, "--save-inputs", "no/in.safetensors"], "there is no folder no"),
    "a bad picture beside": ([*PROMPT, *SAVE, "-o", "a.jpg"], "a.jpg: expected a name that ends"),
    "no finite scale": ([*PROMPT, *SAVE, "--guidance-scale", "nan"], "NaN or infinite"),
    "a negative seed": ([*PROMPT, *SAVE, "--seed", "-1"], "give 0 or more"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_saved_is_refused_and_nothing_is_written(
    case: str, keepstep: Command, bundle: Path, workplace: Path
) -> None:
    arguments, words = REFUSED[case]
    refused(keepstep("run", bundle, *arguments), words)
    assert contents(workplace) == {}
