"""What users get wrong: one message with what was found and the way out, and exit code 2."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.outcome import Command, refused
from cli.tiny_bundle import contents

SCHEDULE = """
keepstep: 1
name: mine
sampler: {scheduler: PNDMScheduler, steps: 4}
cache: {branch: 0}
prune: {ratio: 0.4}
calls: "Fs.Fs"
"""

# What is wrong → what is replaced in SCHEDULE, by what, and what the message must say.
BAD_SCHEDULES = {
    "too few calls": ("Fs.Fs", "Fs.", ["'mine' lists 3 calls", "5 times", "list 5 calls"]),
    "too many calls": ("Fs.Fs", "Fs.Fs.", ["lists 6 calls", "PNDM", "4 steps", "list 5 calls"]),
    "starts shallow": ("Fs.Fs", "sF.Fs", ["call 0 is shallow", "begin with a full call"]),
    "starts skipped": ("Fs.Fs", ".sFFs", ["call 0 is skip", "begin with a full call"]),
    "unknown letter": ("Fs.Fs", "Fx.Fs", ["call 1 is 'x'", "use F (full), s (shallow)"]),
    "unknown kind": ('"Fs.Fs"', "[full, deep]", ["calls[1]", "'deep'", "'full', 'shallow'"]),
    "ratio above 1": ("0.4", "1.4", ["`prune.ratio`", "less than 1", "found 1.4"]),
    "ratio below 0": ("0.4", "-0.4", ["`prune.ratio`", "greater than 0", "found -0.4"]),
    "too many tokens": ("0.4", "0.9", ["prunes 921 of 1024", "1 to 768", "choose a ratio up to"]),
    "no token": ("0.4", "0.0001", ["prunes 0 of 1024", "1 to 768"]),
    "patch that does not tile": ("0.4", "0.4, patch: 3", ["32×32", "3×3", "choose another"]),
    "unknown method": ("ratio", "method: tome, ratio", ["`prune.method`", "'dato'", "'tome'"]),
    "no such branch": ("branch: 0", "branch: 99", ["branch 99 does not exist", "0 to "]),
    "no such module": ("branch: 0", "module: mid", ["cannot be cut at 'mid'", "mid_block"]),
    "no cache": ("cache: {branch: 0}", "", ["shallow calls need `cache`", "add `cache:"]),
    "no such scheduler": ("PNDM", "PNMD", ["no scheduler 'PNMDScheduler'", "Did you mean PNDM"]),
    "a random scheduler": (
        "PNDMScheduler",
        "DDPMScheduler",
        ["DDPMScheduler draws noise", "use a deterministic scheduler such as DDIM"],
    ),
    "no steps": ("steps: 4", "steps: 0", ["`sampler.steps`", "greater than or equal to 1"]),
    "newer version": ("keepstep: 1", "keepstep: 9", ["is 9", "reads 1", "update keepstep"]),
    "unknown key": ("prune:", "pruning:", ["`pruning`", "not permitted"]),
    "a path for a name": ("mine", "../mine", ["`name`", "'../mine'"]),
}


@pytest.mark.parametrize("case", BAD_SCHEDULES)
def test_a_bad_schedule_is_refused_before_anything_is_written(
    case: str, keepstep: Command, model: Path, workplace: Path
) -> None:
    old, new, words = BAD_SCHEDULES[case]
    assert old in SCHEDULE
    (workplace / "bad.yaml").write_text(SCHEDULE.replace(old, new))
    before = contents(workplace)
    refused(keepstep("export", model, "-o", "out", "-s", "bad.yaml"), *words)
    assert contents(workplace) == before


BAD_REQUESTS = {
    "no such built-in": (["-s", "dato-coko"], ["'dato-coko'", "Did you mean 'dato-coco'", "full"]),
    "no such file": (["-s", "no.yaml"], ["no.yaml: cannot be read", "No such file"]),
    "a folder": (["-s", "../work"], ["cannot be read as a schedule", "is a folder"]),
    "the same name twice": (["-s", "full", "-s", "full"], ["two schedules", "'full'", "own name"]),
    "no schedule": ([], ["--schedule", "keepstep export --help"]),
    "unknown backend": (
        ["-s", "full", "--backend", "tensor"],
        ["'tensor'", "known are", "onnxruntime"],
    ),
    "no pictures": (["-s", "full", "--batch", "0"], ["batch is 0", "give 1 to 1024"]),
    "a size that does not fit": (
        ["-s", "full", "--height", "100"],
        ["height 100", "give a multiple of 8"],
    ),
    "no size": (["-s", "full", "--width", "0"], ["--width", "greater than or equal to 1"]),
    "a size in words": (["-s", "full", "--width", "big"], ["--width", "integer"]),
    "unknown option": (["-s", "full", "--hight", "64"], ["--hight", "--height"]),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_is_refused_before_anything_is_written(
    case: str, keepstep: Command, model: Path, workplace: Path
) -> None:
    arguments, words = BAD_REQUESTS[case]
    refused(keepstep("export", model, "-o", "out", *arguments), *words)
    assert contents(workplace) == {}


def cut(path: Path) -> None:
    """Leave the first half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def of_another_family(folder: Path) -> None:
    index = {"_class_name": "Kandinsky3Pipeline", "unet": ["diffusers", "Kandinsky3UNet"]}
    (folder / "model_index.json").write_text(json.dumps(index))


WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
BAD_MODELS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing": (shutil.rmtree, ["neither a folder nor a hub id"]),
    "no diffusers folder": (lambda f: (f / "model_index.json").unlink(), ["save_pretrained"]),
    "index cut": (lambda f: cut(f / "model_index.json"), ["cannot be read"]),
    "of another family": (
        of_another_family,
        ["Kandinsky3Pipeline", "exports the families stable-diffusion"],
    ),
    "weights cut": (lambda f: cut(f / WEIGHTS), ["unet: cannot be loaded", "save the model again"]),
    "weights missing": (lambda f: (f / WEIGHTS).unlink(), ["unet: cannot be loaded", "again"]),
    "config cut": (
        lambda f: cut(f / "vae/config.json"),
        ["vae/config.json: cannot be read", "again"],
    ),
    "no text encoder": (
        lambda f: shutil.rmtree(f / "text_encoder"),
        ["encoder/config.json: cannot"],
    ),
    "no scheduler": (
        lambda f: shutil.rmtree(f / "scheduler"),
        ["scheduler_config.json: cannot"],
    ),
    "vocabulary cut": (lambda f: cut(f / "tokenizer/tokenizer.json"), ["tokenizer: cannot be"]),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_a_bad_model_folder_is_refused_by_name(
    case: str,
    keepstep: Command,
    model: Path,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    damage, words = BAD_MODELS[case]
    copy = Path(shutil.copytree(model, workplace / "my-model"))
    damage(copy)
    before = contents(workplace)
    refused(keepstep("export", "my-model", "-o", "out", "-s", "full"), "my-model", *words)
    assert contents(workplace) == before


@pytest.mark.parametrize("taken", ["a file", "a folder", "below a file"])
def test_what_is_no_bundle_is_never_replaced(
    taken: str, keepstep: Command, model: Path, workplace: Path
) -> None:
    out = workplace / "mine"
    if taken == "a folder":
        out.mkdir()
        (out / "notes.txt").write_text("mine")
    else:
        out.write_text("mine")
    before = contents(workplace)
    target = out / "bundle" if taken == "below a file" else out
    message = refused(keepstep("export", model, "-o", target, "-s", "full"), str(out))
    assert "choose another" in message
    assert contents(workplace) == before


BAD_COMMANDS = {
    "unknown": (["inspekt"], ["No such command 'inspekt'", "inspect"]),
    "no bundle": (["inspect"], ["Missing argument", "keepstep inspect --help"]),
    "unknown option": (["inspect", "x", "--jsn"], ["--jsn", "--json"]),
    "a seed in words": (["run", "x", "--prompt", "a", "--seed", "b"], ["--seed", "integer"]),
    "no repeats": (["bench", "x", "--repeats", "0"], ["--repeats", "greater than or equal to 1"]),
    "no threads": (["bench", "x", "--threads", "0"], ["--threads", "greater than or equal to 1"]),
    "nothing to do": (["run", "x"], ["either --prompt and -o, or --inputs and --outputs"]),
    "too much to do": (["run", "x", "--prompt", "a", "--inputs", "b"], ["either --prompt"]),
    "no picture": (["run", "x", "--prompt", "a"], ["--prompt needs -o"]),
    "no outputs": (["run", "x", "--inputs", "a"], ["--inputs needs --outputs"]),
}


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_a_bad_command_line_is_refused_with_the_way_to_its_help(
    case: str, keepstep: Command, workplace: Path
) -> None:
    arguments, words = BAD_COMMANDS[case]
    refused(keepstep(*arguments), *words)
    assert contents(workplace) == {}


def test_no_command_at_all_shows_the_help(keepstep: Command) -> None:
    outcome = keepstep()
    assert outcome.code == 2
    assert "export" in outcome.out
    assert outcome.err == ""
