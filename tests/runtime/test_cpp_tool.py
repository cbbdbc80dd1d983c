"""`keepstep-run`, where `make test-cpp` has built it: it says, takes and gives what Python does.

With a build that has ONNX Runtime engines are run and outputs compared; with another the backend
is `null`, whose outputs are zeros.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli import tiny_bundle
from cli.conditioned_bundle import BATCH, HEIGHT, WIDTH, write_conditioned_bundle
from cli.tiny_bundle import contents
from PIL import Image
from plans.edits import put
from plans.make import mutated
from runtime.cpp_tool import HOSTILE, PRINTED, Tool, built, on_a_terminal
from runtime.toy_bundle import CONSTANTS, inputs, seal, write_bundle
from safetensors.numpy import load_file, save_file

from keepstep.cli.play import Request, inputs_of, save_inputs
from keepstep.runtime import Bundle, InputError, ResultError

ROOT = Path(__file__).resolve().parents[2]
pytestmark = built


@pytest.fixture
def backend(tool: Tool, bundle: Bundle) -> str:
    """The backend that the program takes by itself."""
    names = json.loads(tool(bundle.path, "--list", "--json").out)["backends"]
    return next((name for name in names if name != "null"), "null")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose plan `copy` gives the pictures that it takes."""
    return Bundle.open(write_conditioned_bundle(tmp_path_factory.mktemp("pictures") / "bundle"))


def types(known: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {"dtype": t.dtype, "shape": list(t.shape)} for name, t in known.items()}


def test_a_listing_has_the_types_and_calls_of_the_player(tool: Tool, bundle: Bundle) -> None:
    outcome = tool(bundle.path, "--list", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    listing = json.loads(outcome.out)
    with bundle.player("toy", "null") as player:
        for role in ("inputs", "feeds", "outputs"):
            expected = types(getattr(player, role))
            assert listing[role] == expected
            assert list(listing[role]) == list(expected), "in the order of the plan"
    plan = bundle.plan("toy")
    labels = [plan.steps[c.step].label if c.step is not None else None for c in plan.calls]
    assert [(c["stage"], c["label"], c["calls"]) for c in listing["calls"]] == [
        (call.stage, label, 1) for call, label in zip(plan.calls, labels, strict=True)
    ]
    assert listing["plans"] == list(bundle.plans)


def test_outputs_are_those_of_the_python_player(tool: Tool, bundle: Bundle, backend: str) -> None:
    given = inputs(seed=2)
    save_file(given, "in.safetensors")
    files = ["--inputs", "in.safetensors", "--outputs", "out.safetensors"]
    outcome = tool(bundle.path, *files, "--json", "--threads", 1)
    assert (outcome.code, outcome.err) == (0, "")
    told = json.loads(outcome.out)
    assert (told["plan"], told["backend"], told["written"]) == ("toy", backend, [files[-1]])
    assert [call["stage"] for call in told["calls"]] == [c.stage for c in bundle.plan("toy").calls]
    assert sum(call["share"] for call in told["calls"]) == pytest.approx(1)  # rounded sums
    with bundle.player("toy", backend, threads=1) as player:
        expected = player.run(given)
    found = load_file("out.safetensors")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


def test_embeddings_in_place_of_ids_leave_their_call_out(tool: Tool, bundle: Bundle) -> None:
    save_file({"noise": inputs()["noise"], "prompt_embeds": np.ones((1, 4), np.float32)}, "in.st")
    outcome = tool(bundle.path, "--inputs", "in.st", "--json", "--repeat", 2)
    assert (outcome.code, outcome.err) == (0, "")
    told = json.loads(outcome.out)
    assert told["runs"] == 2
    assert [call["stage"] for call in told["calls"]] == ["full", "shallow", "final", "decode"]


def test_a_png_file_holds_the_pictures_side_by_side(
    tool: Tool, pictures: Bundle, backend: str
) -> None:
    photos = np.random.default_rng(1).integers(0, 256, (BATCH, HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(photos[0]).save("photo.png")
    with pictures.player("copy", "null") as player:
        given = inputs_of(player, Request("a", init_image=Path("photo.png")))
        save_inputs(player, {**given, "init_image": photos}, Path("in.safetensors"))
    files = ["--inputs", "in.safetensors", "--outputs", "out.safetensors", "--png", "a.png"]
    outcome = tool(pictures.path, "--plan", "copy", *files)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("out.safetensors, a.png: copy, ")
    assert ("whose outputs are zeros" in outcome.out) == (backend == "null")
    image = load_file("out.safetensors")["image"]
    assert np.array_equal(image, photos if backend != "null" else np.zeros_like(photos))
    with Image.open("a.png") as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        assert np.array_equal(np.asarray(picture), np.concatenate(list(image), axis=1))


GOOD = inputs()
NOISE = GOOD["noise"]
BAD_INPUTS: dict[str, tuple[dict[str, np.ndarray] | bytes | None, str]] = {
    "missing": (None, "in.safetensors: cannot be read: No such file"),
    "text": (b"text", "in.safetensors: not a safetensors file"),
    "of another dtype": ({**GOOD, "noise": NOISE.astype(np.float16)}, "found dtype float16"),
    "of a dtype of no plan": ({**GOOD, "noise": NOISE.astype(np.float64)}, "plans do not know"),
    "of another shape": ({**GOOD, "noise": NOISE[0]}, "found float32[4]"),
    "unknown": ({**GOOD, "nois": NOISE}, "did you mean 'noise'?"),
    "NaN": ({**GOOD, "noise": NOISE * np.float32("nan")}, "4 of 4 elements are NaN"),
    "without the text": ({"noise": NOISE}, "--prompt TEXT --save-inputs in.safetensors"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_inputs_are_refused_in_one_line_and_nothing_is_written(
    case: str, tool: Tool, bundle: Bundle
) -> None:
    given, words = BAD_INPUTS[case]
    if isinstance(given, bytes):
        Path("in.safetensors").write_bytes(given)
    elif given is not None:
        save_file(given, "in.safetensors")
    before = contents(Path.cwd())
    files = ["--inputs", "in.safetensors", "--outputs", "out.safetensors"]
    outcome = tool(bundle.path, *files)
    assert (outcome.code, outcome.out) == (2, "")
    assert re.fullmatch(r"keepstep-run: [^\n]+\n", outcome.err)
    assert words in outcome.err
    assert contents(Path.cwd()) == before


def test_what_is_asked_for_in_vain_is_refused_before_anything_is_written(
    tool: Tool, bundle: Bundle
) -> None:
    save_file(GOOD, "in.safetensors")
    Path("folder.png").mkdir()
    os.mkfifo("fifo.safetensors")
    before = contents(Path.cwd())
    for arguments, words in (
        (["--plan", "toi"], "did you mean 'toy'?"),
        (["--png", "a.png"], "gives no picture"),
        (["--png", "folder.png"], "folder.png: is a folder"),
        (["--outputs", "no/out.safetensors"], "there is no folder no"),
        (["--outputs", "out\n.bin"], "out .bin: expected a name"),
        (["--outputs", f"{HOSTILE}.bin"], f"{PRINTED}.bin: there is no folder"),
        ([f"--{HOSTILE}"], r"a\x1b[2J\x0d\u202e[red]b[/]:smile:"),
        (["--outputs", "fifo.safetensors"], "fifo.safetensors: is there and no file"),
        (["--backend", "nul"], "did you mean 'null'?"),
    ):
        outcome = tool(bundle.path, "--inputs", "in.safetensors", *arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert re.fullmatch(r"keepstep-run: [^\n]+\n", outcome.err)
        assert words in outcome.err
        assert contents(Path.cwd()) == before


def test_a_terminal_sees_the_calls_counted_and_then_nothing_of_it(
    tool: Tool, bundle: Bundle
) -> None:
    save_file(GOOD, "in.safetensors")
    code, sent = on_a_terminal(bundle.path, "--inputs", "in.safetensors")
    assert code == 0
    assert re.fullmatch(r"(\rtoy: call \d/5 …){5}\r\x1b\[K", sent)


def test_the_command_lines_of_the_document_are_run(tool: Tool) -> None:
    shutil.copytree(tiny_bundle.bundle(), "engines/emoji")
    with Bundle.open("engines/emoji").player("full", "null") as player:
        save_inputs(player, inputs_of(player, Request("a red apple")), Path("in.safetensors"))
    document = (ROOT / "docs/embedding.md").read_text(encoding="utf-8")
    lines = re.findall(r"^keepstep-run (.*)$", document, re.MULTILINE)
    assert len(lines) >= 4
    for line in lines:
        outcome = tool(*shlex.split(line, comments=True))
        assert (outcome.code, outcome.err) == (0, ""), line
    assert Path("apple.png").exists()


def test_what_means_nothing_is_refused_as_in_python_and_nothing_is_written(
    tool: Tool, tmp_path: Path, backend: str
) -> None:
    if backend == "null":
        pytest.skip("a build that runs no engines gives zeros alone")
    folder = write_bundle(tmp_path / "toy")
    save_file(
        {"coef": np.full((3, 3), np.nan, np.float32), "times": CONSTANTS["times"]},
        folder / "plans/toy.safetensors",
    )
    seal(folder)
    save_file(inputs(), "in.safetensors")
    files = ["--inputs", "in.safetensors", "--outputs", "out.safetensors"]
    outcome = tool(folder, *files)
    with Bundle.open(folder).player("toy", threads=1) as player, pytest.raises(ResultError) as told:
        player.run(inputs())
    begin = "the first stage to give such numbers is 'full' (calls[1], "
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert begin in outcome.err
    assert begin in str(told.value)
    assert list(contents(Path())) == ["in.safetensors"]


def test_a_range_of_inputs_is_the_same_in_both_languages(tool: Tool, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "toy", mutated(put("values", "token_ids", "range", [0, 6])))
    given = inputs() | {"token_ids": np.array([[0, 6, 7, -1]])}
    save_file(given, "in.safetensors")
    outcome = tool(folder, "--inputs", "in.safetensors", "--backend", "null")
    with Bundle.open(folder).player("toy", "null") as player, pytest.raises(InputError) as told:
        player.run(given)
    assert (outcome.code, outcome.err) == (2, f"keepstep-run: {told.value}\n")
