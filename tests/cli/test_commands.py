"""Every command once, from the export to the benchmark, on a tiny model."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.outcome import Command
from cli.tiny_bundle import CALLS, DATO_COCO, FULL, KEPT, contents, seal
from PIL import Image
from safetensors.numpy import load_file, save_file

from keepstep.cli import main as cli
from keepstep.exporter.schedule.schema import Schedule, builtin_names
from keepstep.runtime import Bundle

COMMANDS = [command.callback.__name__ for command in cli.app.registered_commands]  # type: ignore[union-attr]
INPUTS = ["guidance_scale", "negative_token_ids", "noise", "token_ids"]


def data_of(keepstep: Command, *arguments: object) -> Any:
    outcome = keepstep(*arguments, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    return json.loads(outcome.out)


def golden_inputs(bundle: Path, plan: str) -> dict[str, np.ndarray]:
    golden = load_file(bundle / f"golden/{plan}.safetensors")
    return {k.removeprefix("inputs."): a for k, a in golden.items() if k.startswith("inputs.")}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_shows_an_example_of_it_on_one_line(
    command: str, keepstep: Command
) -> None:
    outcome = keepstep(command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    examples = re.findall(rf"^ *keepstep {command} +[^ \[].*$", outcome.out, re.MULTILINE)
    assert examples
    for example in examples:
        assert example.count('"') % 2 == 0, "the example is broken off"


def test_what_is_taken_for_an_absent_option_is_shown(
    keepstep: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words in brackets within a help text would be taken for markup, and vanish."""
    monkeypatch.setenv("COLUMNS", "200")
    for command, taken in (
        ("export", ("onnxruntime", "any, or the one at hand", "as it is made", "the plain ones")),
        ("bench", ("all that can here",)),
    ):
        outcome = keepstep(command, "--help")
        for words in taken:
            assert f"[default: ({words})]" in outcome.out


def test_export_writes_a_bundle_and_says_what_is_in_it(
    keepstep: Command, model: Path, workplace: Path
) -> None:
    for name, text in (("full", FULL), ("dato-coco", DATO_COCO)):
        (workplace / f"{name}.yaml").write_text(text)
    outcome = keepstep("export", model, "-o", "out", "-s", "full.yaml", "-s", "dato-coco.yaml")
    assert outcome.code == 0, outcome
    assert outcome.err == ""
    *weights, last = outcome.out.splitlines()
    assert weights == [
        "unet: diffusion_pytorch_model.safetensors",
        "vae: diffusion_pytorch_model.safetensors",
        "text_encoder: model.safetensors",
    ]
    assert re.fullmatch(r"out: plans full, dato-coco; \d+\.\d MB", last)
    opened = Bundle.open("out")
    assert opened.plans == ("full", "dato-coco")
    assert opened.manifest.model["name"] == "tiny"
    assert Schedule.load(Path("out/schedules/full.yaml")) == Schedule.load("./full.yaml")
    assert sorted(path.name for path in workplace.iterdir()) == [
        "dato-coco.yaml",
        "full.yaml",
        "out",
    ]


def test_an_old_bundle_is_replaced_whole(keepstep: Command, model: Path, damaged: Path) -> None:
    Path("full.yaml").write_text(FULL)
    assert keepstep("export", model, "-o", damaged, "-s", "full.yaml").code == 0
    assert Bundle.open(damaged).plans == ("full",)
    assert not (damaged / "plans/dato-coco.json").exists()


def test_run_draws_a_picture(keepstep: Command, bundle: Path, one_thread: list[str]) -> None:
    outcome = keepstep("run", bundle, "--prompt", "a red apple", "-o", "a.png", *one_thread)
    assert (outcome.code, outcome.err) == (0, "")
    assert re.fullmatch(r"a\.png: full, \d+\.\d\d s\n", outcome.out)
    with Image.open("a.png") as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (64, 64))


def test_what_is_asked_for_changes_the_picture_and_the_same_again_does_not(
    keepstep: Command, bundle: Path, one_thread: list[str]
) -> None:
    asked: list[list[str]] = [
        ["--prompt", "a"],
        ["--prompt", "a", "--seed", "0", "--guidance-scale", "7.5", "--plan", "full"],
        ["--prompt", "b"],
        ["--prompt", "a", "--negative-prompt", "b"],
        ["--prompt", "a", "--guidance-scale", "1"],
        ["--prompt", "a", "--seed", "1"],
        ["--prompt", "a", "--plan", "dato-coco"],
    ]
    pictures = []
    for arguments in asked:
        assert keepstep("run", bundle, *arguments, "-o", "a.png", *one_thread).code == 0
        with Image.open("a.png") as picture:
            pictures.append(picture.tobytes())
    assert pictures[0] == pictures[1]
    assert len(set(pictures)) == len(asked) - 1


@pytest.mark.parametrize("prompt", ["", "🍎 ünï 漢字", "a red apple " * 500])
def test_any_text_is_a_prompt(
    prompt: str, keepstep: Command, bundle: Path, one_thread: list[str]
) -> None:
    outcome = keepstep("run", bundle, "--prompt", prompt, "-o", "a.png", *one_thread)
    assert (outcome.code, outcome.err) == (0, "")
    assert Path("a.png").exists()


def test_a_name_is_neither_styled_nor_wrapped(
    keepstep: Command, bundle: Path, one_thread: list[str]
) -> None:
    name = f"[red] {'long ' * 30}name.png"
    outcome = keepstep("run", bundle, "--prompt", "a", "-o", name, *one_thread)
    assert outcome.out.startswith(f"{name}: full, ")
    assert outcome.out.count("\n") == 1


@pytest.mark.parametrize("plan", CALLS)
def test_the_raw_form_gives_what_the_player_gives_bit_for_bit(
    plan: str, keepstep: Command, bundle: Path, one_thread: list[str]
) -> None:
    inputs = golden_inputs(bundle, plan)
    save_file(inputs, "in.safetensors")
    files = ["--inputs", "in.safetensors", "--outputs", "out.safetensors"]
    outcome = keepstep("run", bundle, "--plan", plan, *files, *one_thread)
    assert (outcome.code, outcome.err) == (0, "")
    written = load_file("out.safetensors")
    with Bundle.open(bundle).player(plan, threads=1) as player:
        expected = player.run(inputs)
    assert written.keys() == expected.keys() == {"latents", "image"}
    for name, array in expected.items():
        assert written[name].dtype == array.dtype
        assert np.array_equal(written[name], array)


def test_verify_finds_a_fresh_bundle_good(keepstep: Command, bundle: Path) -> None:
    verdicts = data_of(keepstep, "verify", bundle)
    assert [verdict["plan"] for verdict in verdicts] == ["full", "dato-coco"]
    for verdict in verdicts:
        assert verdict["good"]
        assert 0 < verdict["run"]["error"] < 1e-3
        assert 0 < max(call["error"] for call in verdict["calls"]) < 1e-4
        assert len(verdict["calls"]) > len(verdict["stages"])
    outcome = keepstep("verify", bundle)
    assert outcome.code == 0
    assert "mismatch" not in outcome.out


def mismatch(bundle: Path) -> None:
    """Let the recorded run of dato-coco end in other latents than those that are played."""
    path = bundle / "golden/dato-coco.safetensors"
    golden = {name: array.copy() for name, array in load_file(path).items()}
    golden["outputs.latents"] *= 1.2
    save_file(golden, path)
    seal(bundle)


def test_verify_finds_a_mismatch(keepstep: Command, damaged: Path) -> None:
    mismatch(damaged)
    outcome = keepstep("verify", damaged)
    assert (outcome.code, outcome.err) == (1, "")
    lines = re.findall(r"^(\S+|) +.*(the whole run|decode) .* (good|mismatch)", outcome.out, re.M)
    assert [(what, mark) for _, what, mark in lines] == [
        ("decode", "good"),
        ("the whole run", "good"),
        ("decode", "mismatch"),
    ]
    assert "not judged: it hangs on ties" in outcome.out
    assert keepstep("verify", damaged, "--plan", "full").code == 0
    outcome = keepstep("verify", damaged, "--json")
    assert outcome.code == 1
    assert [verdict["good"] for verdict in json.loads(outcome.out)] == [True, False]


def test_verify_tells_mismatches_where_the_exporter_is_not_installed(
    keepstep: Command, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search for a precision fallback edits ONNX code; without what it needs no advice."""
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    monkeypatch.setitem(
        sys.modules, "keepstep.exporter.check.precision_fallback", None
    )  # cannot be imported
    mismatch(damaged)
    outcome = keepstep("verify", damaged)
    assert (outcome.code, outcome.err) == (1, "")
    assert "mismatch" in outcome.out


def test_inspect_agrees_with_the_plans(keepstep: Command, bundle: Path) -> None:
    data = data_of(keepstep, "inspect", bundle)
    assert data["model"]["name"] == "tiny"
    opened = Bundle.open(bundle)
    assert [entry["name"] for entry in data["plans"]] == list(opened.plans)
    for entry in data["plans"]:
        plan = opened.plan(entry["name"])
        assert entry["calls"] == CALLS[entry["name"]]
        assert sum(entry["steps"].values()) == len(plan.steps)
        assert sum(entry["launches"].values()) == len(plan.calls)
        assert entry["steps"].get("skip", 0) == entry["calls"].count(".")
        assert entry["kept"] == ([KEPT] if entry["name"] == "dato-coco" else [])
        assert entry["arena_bytes"] == plan.arena_bytes
        assert 0 < entry["alive_bytes"] <= entry["arena_bytes"] <= 1.1 * entry["alive_bytes"]
        network = [call.stage for call in plan.calls if call.step is not None]
        assert entry["loop_macs"] == sum(plan.stages[stage].macs for stage in network)
        assert list(entry["inputs"]) == INPUTS
        assert entry["inputs"]["noise"] == {"dtype": "float32", "shape": [1, 4, 32, 32]}
        assert entry["outputs"]["image"] == {"dtype": "uint8", "shape": [1, 64, 64, 3]}


def test_inspect_launches_each_call_once_and_skips_none_of_the_rest(
    keepstep: Command, bundle: Path
) -> None:
    (entry,) = data_of(keepstep, "inspect", bundle, "--plan", "dato-coco")["plans"]
    assert entry["steps"] == {"full": 2, "shallow": 2, "skip": 1}
    assert sorted(entry["launches"].values()) == [1, 1, 1, 2, 2]
    for name in ("text", "prompt", "decode"):
        assert entry["launches"][name] == 1


def test_inspect_shows_a_person_the_same_numbers(keepstep: Command, bundle: Path) -> None:
    outcome = keepstep("inspect", bundle, "--plan", "dato-coco")
    assert (outcome.code, outcome.err) == (0, "")
    for words in ("dato-coco", "Fs.Fs", "2 full, 2 shallow, 1 skip", str(KEPT), *INPUTS):
        assert words in outcome.out


def test_schedules_lists_every_built_in_and_its_cost(keepstep: Command) -> None:
    data = {entry["name"]: entry for entry in data_of(keepstep, "schedules")}
    assert sorted(data) == builtin_names()
    assert data["dato-coco"]["kinds"] == {"full": 5, "shallow": 21, "tokens": 0, "skip": 25}
    assert len(data["dato-coco"]["calls"]) == 51
    assert "5 full, 21 shallow, 25 skip of 51 calls" in data["dato-coco"]["cost"]
    table = keepstep("schedules").out
    for name in data:
        assert f"\n{name} " in table


def test_json_can_be_piped_whatever_the_width(
    keepstep: Command, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    for arguments in (["inspect", bundle], ["verify", bundle], ["schedules"]):
        assert data_of(keepstep, *arguments)


def test_looking_at_a_bundle_changes_nothing(keepstep: Command, bundle: Path) -> None:
    before = contents(bundle)
    for command in ("inspect", "verify"):
        assert keepstep(command, bundle).code == 0
    assert contents(bundle) == before
