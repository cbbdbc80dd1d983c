"""Damaged bundles and inputs that do not fit, through the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.outcome import Command, refused
from cli.tiny_bundle import contents
from safetensors.numpy import load_file, save_file


def edited(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def altered(path: Path) -> None:
    """Another last byte, the same size."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def linked_away(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.rename(folder.parent / "elsewhere")
    weights.symlink_to(folder.parent / "elsewhere")


def with_path(folder: Path, path: str) -> None:
    entry = {"bytes": 0, "sha256": "0" * 64}
    edited(folder / "bundle.json", lambda m: m["files"].update({path: entry}))


DAMAGE: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "file missing": (
        lambda f: (f / "weights.safetensors").unlink(),
        ["weights.safetensors", "is missing", "copy the bundle again"],
    ),
    "file cut": (
        lambda f: (f / "weights.safetensors").write_bytes(b"cut"),
        ["weights.safetensors", "3 bytes, expected", "copy the bundle again"],
    ),
    "file altered": (
        lambda f: altered(f / "weights.safetensors"),
        ["weights.safetensors", "SHA-256", "copy the bundle again"],
    ),
    "plan altered": (lambda f: altered(f / "plans/full.json"), ["plans/full.json", "SHA-256"]),
    "manifest missing": (lambda f: (f / "bundle.json").unlink(), ["bundle.json", "export"]),
    "manifest cut": (lambda f: (f / "bundle.json").write_text("{"), ["bundle.json", "rule 1"]),
    "newer": (
        lambda f: edited(f / "bundle.json", lambda m: m.update(keepstep=3)),
        ["version 3", "reads versions 1 and 2"],
    ),
    "path upwards": (lambda f: with_path(f, "../x"), ["'../x'", "rule 3"]),
    "absolute path": (lambda f: with_path(f, "/x"), ["'/x'", "rule 3"]),
    "link out of it": (linked_away, ["symbolic link", "out of the bundle", "rule 3"]),
}


@pytest.mark.parametrize("command", ["inspect", "verify", "bench", "run"])
@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_bundle_is_refused_by_every_command(
    case: str, command: str, keepstep: Command, damaged: Path, workplace: Path
) -> None:
    damage, words = DAMAGE[case]
    damage(damaged)
    more = ["--prompt", "a", "-o", "a.png"] if command == "run" else []
    refused(keepstep(command, damaged, *more), *words)
    assert contents(workplace) == {}


@pytest.mark.parametrize("command", ["inspect", "verify", "run"])
def test_a_wrong_plan_name_is_answered_with_the_right_ones(
    command: str, keepstep: Command, bundle: Path
) -> None:
    more = ["--prompt", "a", "-o", "a.png"] if command == "run" else []
    outcome = keepstep(command, bundle, "--plan", "dato-coko", *more)
    refused(outcome, "no plan 'dato-coko'", "did you mean 'dato-coco'?", "its plans: 'full'")


BAD_INPUTS: dict[str, tuple[Callable[[dict[str, Any]], object], list[str]]] = {
    "wrong name": (
        lambda i: i.update(noize=i.pop("noise")),
        ["no input 'noize'", "did you mean 'noise'", "'token_ids'"],
    ),
    "missing": (lambda i: i.pop("token_ids"), ["needs the input token_ids", "int64", "[1, 8]"]),
    "wrong dtype": (
        lambda i: i.update(noise=i["noise"].astype(np.float64)),
        ["'noise'", "expected float32", "found dtype float64", "numpy.asarray"],
    ),
    "wrong shape": (
        lambda i: i.update(noise=i["noise"][:, :, :16]),
        ["'noise'", "[1, 4, 32, 32]", "found shape [1, 4, 16, 32]", "export with another"],
    ),
    "NaN": (
        lambda i: i["noise"].__setitem__((0, 0, 0, 0), np.nan),
        ["'noise'", "1 of 4096 elements are NaN or infinite", "must be finite"],
    ),
    "infinity": (
        lambda i: i.update(guidance_scale=np.array(np.inf, np.float32)),
        ["'guidance_scale'", "NaN or infinite"],
    ),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_inputs_that_do_not_fit_are_refused_and_nothing_is_written(
    case: str, keepstep: Command, bundle: Path, workplace: Path, one_thread: list[str]
) -> None:
    edit, words = BAD_INPUTS[case]
    golden = load_file(bundle / "golden/full.safetensors")
    inputs = {k.removeprefix("inputs."): a for k, a in golden.items() if k.startswith("inputs.")}
    edit(inputs)
    save_file({name: np.array(a, order="C") for name, a in inputs.items()}, "in.safetensors")
    before = contents(workplace)
    files = ["--inputs", "in.safetensors", "--outputs", "out.safetensors"]
    refused(keepstep("run", bundle, *files, *one_thread), *words)
    assert contents(workplace) == before


FLOAT8 = b'{"x":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
NO_INPUTS = {
    "not there": (None, ["in.safetensors", "No such file"]),
    "empty": (b"", ["in.safetensors", "cannot be read as a safetensors file"]),
    "text": (b"hello, world", ["in.safetensors", "cannot be read as a safetensors file"]),
    "a dtype beyond numpy's": (
        len(FLOAT8).to_bytes(8, "little") + FLOAT8 + bytes(1),
        ["in.safetensors", "dtype", "'F8_E4M3'"],
    ),
}


@pytest.mark.parametrize("case", NO_INPUTS)
def test_a_file_that_holds_no_inputs_is_refused(
    case: str, keepstep: Command, bundle: Path, workplace: Path, one_thread: list[str]
) -> None:
    data, words = NO_INPUTS[case]
    if data is not None:
        (workplace / "in.safetensors").write_bytes(data)
    files = ["--inputs", "in.safetensors", "--outputs", "out.safetensors"]
    refused(keepstep("run", bundle, *files, *one_thread), *words)
    assert not (workplace / "out.safetensors").exists()


BAD_PICTURES = {
    "seed below 0": (["--seed", "-1", "-o", "a.png"], ["seed is -1", "give 0 or more"]),
    "guidance nan": (["--guidance-scale", "nan", "-o", "a.png"], ["'guidance_scale'", "finite"]),
    "guidance beyond float32": (["--guidance-scale", "1e39", "-o", "a.png"], ["guidance_scale"]),
    "unknown backend": (["--backend", "cuda", "-o", "a.png"], ["no backend 'cuda'", "known: "]),
    "into no folder": (["-o", "no/a.png"], ["no/a.png", "no folder no", "make it"]),
    "onto a folder": (["-o", "."], ["is a folder", "name of a file"]),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_a_picture_that_cannot_be_is_refused_and_nothing_is_written(
    case: str, keepstep: Command, bundle: Path, workplace: Path, one_thread: list[str]
) -> None:
    arguments, words = BAD_PICTURES[case]
    refused(keepstep("run", bundle, "--prompt", "a", *arguments, *one_thread), *words)
    assert contents(workplace) == {}


def test_golden_values_without_calls_and_outputs_are_refused(
    keepstep: Command, damaged: Path
) -> None:
    from cli.tiny_bundle import seal

    path = damaged / "golden/full.safetensors"
    golden = load_file(path)
    save_file({k: a for k, a in golden.items() if k.startswith("inputs.")}, path)
    seal(damaged)
    refused(keepstep("verify", damaged), "neither calls nor outputs", "'full'", "export it again")


@pytest.mark.parametrize("what", ["a FIFO", "a device", "a folder", "more"])
def test_inputs_that_are_no_file_or_a_huge_one_are_refused_without_reading_them(
    what: str, keepstep: Command, bundle: Path, one_thread: list[str]
) -> None:
    path = Path("in.safetensors")
    if what == "a FIFO":
        os.mkfifo(path)
    elif what == "a device":
        path.symlink_to("/dev/zero")
    elif what == "a folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 2**40)
    files = ["--inputs", path, "--outputs", "out.safetensors"]
    word = "1099511627776 bytes" if what == "more" else f"is {what}, expected a regular file"
    refused(keepstep("run", bundle, *files, *one_thread), "in.safetensors: cannot be read", word)
