"""A stage taken out of a bundle: other tools run it, and get what it must give."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from cli.outcome import Command, environment, refused
from cli.tiny_bundle import contents, seal
from exporter.small_stages import RTX, SHARED
from polygraphy.json import load_json
from safetensors.numpy import load_file, save_file

from keepstep.exporter.engines import OnnxStage, builder
from keepstep.output import stage_files
from keepstep.runtime import Bundle

PLAN = "dato-coco"
STAGES = ["text", "prompt", "full-dato0.4", "shallow-dato0.4", "decode"]


def take(keepstep: Command, bundle: Path, stage: str, folder: Path | str = "taken") -> Path:
    outcome = keepstep("debug", "stage", bundle, stage, "-o", folder, "--plan", PLAN)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert outcome.out.count("\n") == 1
    return Path(folder)


def commands(folder: Path) -> dict[str, list[str]]:
    """The commands of README.txt by what they answer."""
    lines = (folder / "README.txt").read_text().replace("\\\n", " ").splitlines()
    return {
        question: shlex.split(command)
        for question, command in pairwise(lines)
        if command.startswith("    ") and question.endswith(("?", "GPU)"))
    }


def polygraphy(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("polygraphy")
    return subprocess.run(
        [program, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment(OMP_NUM_THREADS="1"),
    )


@pytest.mark.parametrize("stage", ["text", "full-dato0.4"])
def test_polygraphy_runs_the_stage_against_its_golden_outputs(
    stage: str, keepstep: Command, bundle: Path
) -> None:
    folder = take(keepstep, bundle, stage)
    program, *arguments = commands(folder)["Does ONNX Runtime give what it must?"]
    assert program == "polygraphy"
    done = polygraphy(arguments, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Pass Rate: 100.00%" in done.stdout


def test_polygraphy_finds_an_output_that_is_off(keepstep: Command, bundle: Path) -> None:
    folder = take(keepstep, bundle, "text")
    model = onnx.load(folder / "model.onnx")
    gain = next(t for t in model.graph.initializer if t.name.endswith("final_layer_norm.weight"))
    gain.raw_data = (1.01 * onnx.numpy_helper.to_array(gain)).tobytes()
    onnx.save(model, folder / "model.onnx")
    done = polygraphy(commands(folder)["Does ONNX Runtime give what it must?"][1:], folder)
    assert done.returncode == 1
    assert "FAILED" in done.stdout


def test_polygraphy_shows_what_is_in_the_model(keepstep: Command, bundle: Path) -> None:
    folder = take(keepstep, bundle, "decode")
    done = polygraphy(commands(folder)["What is in the model?"][1:], folder)
    assert done.returncode == 0, done.stderr
    assert "Conv" in done.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_inputs_and_outputs_are_those_of_the_stages_first_call(
    stage: str, keepstep: Command, bundle: Path
) -> None:
    folder = take(keepstep, bundle, stage)
    plan, golden = Bundle.open(bundle).plan(PLAN), Bundle.open(bundle).golden(PLAN)
    call = next(i for i, call in enumerate(plan.calls) if call.stage == stage)
    (inputs,) = load_json(str(folder / "inputs.json"))
    ((_, (outputs,)),) = load_json(str(folder / "outputs.json")).items()
    signature = plan.stages[stage]
    for found, types in ((inputs, signature.inputs), (outputs, signature.outputs)):
        for name, array in found.items():
            assert (str(array.dtype), array.shape) == (types[name].dtype, types[name].shape)
    assert inputs.keys() == signature.inputs.keys()
    assert set(signature.outputs) - set(outputs) <= {"cached"}, "no golden values have it"
    for name in outputs:
        expected = golden.get(f"calls.{call}.{name}", golden.get(f"outputs.{name}"))
        assert np.array_equal(outputs[name], expected)
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    given = {name: np.asarray(array) for name, array in inputs.items()}
    for name, array in zip(outputs, session.run([*outputs], given), strict=True):
        assert np.allclose(
            array, outputs[name], rtol=0, atol=1 if array.dtype == np.uint8 else 1e-3
        )


def test_the_features_that_a_shallow_stage_reads_are_not_zeros(
    keepstep: Command, bundle: Path
) -> None:
    """No golden values have them: they are what the calls before it gave."""
    (inputs,) = load_json(str(take(keepstep, bundle, "shallow-dato0.4") / "inputs.json"))
    assert np.abs(inputs["cached"]).max() > 0


@RTX
@pytest.mark.parametrize("stage", STAGES)
def test_tensorrt_builds_the_model(stage: str, keepstep: Command, bundle: Path) -> None:
    folder = take(keepstep, bundle, stage)
    signature = Bundle.open(bundle).plan(PLAN).stages[stage]
    code = (folder / "model.onnx").read_bytes()
    taken = OnnxStage(stage, code, signature.inputs, signature.outputs, {}, macs=0)
    assert builder("tensorrt-rtx", SHARED).build(taken, None)


def test_large_weights_lie_beside_the_model(
    keepstep: Command, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = take(keepstep, bundle, "text", "whole")
    monkeypatch.setattr(stage_files, "LARGEST_WHOLE", 1000)
    apart = take(keepstep, bundle, "text", "apart")
    assert {p.name for p in apart.iterdir()} - {p.name for p in whole.iterdir()} == {
        "model.onnx.data"
    }
    assert "model.onnx.data" in (apart / "README.txt").read_text()
    assert (apart / "model.onnx").stat().st_size < (whole / "model.onnx").stat().st_size
    done = polygraphy(commands(apart)["Does ONNX Runtime give what it must?"][1:], apart)
    assert done.returncode == 0, done.stdout


def test_the_first_plan_is_taken_where_none_is_named(keepstep: Command, bundle: Path) -> None:
    outcome = keepstep("debug", "stage", bundle, "full", "-o", "taken")
    assert outcome.out == "taken: stage full of plan full, call 2; see README.txt\n"


def test_an_empty_folder_is_filled_and_any_other_is_refused(
    keepstep: Command, bundle: Path, workplace: Path
) -> None:
    Path("empty").mkdir()
    take(keepstep, bundle, "text", "empty")
    before = contents(workplace)
    Path("file").write_text("mine")
    Path("link").symlink_to("empty")
    words = {
        "empty": "something in it",
        "file": "no folder",
        "link": "no folder",
        "no/such": "no folder",
    }
    for name, word in words.items():
        refused(keepstep("debug", "stage", bundle, "text", "-o", name), name, word)
    Path("file").unlink()
    Path("link").unlink()
    assert contents(workplace) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["txet"], ["no stage 'txet'", "did you mean 'text'", "'decode'"]),
        (["text", "--plan", "ful"], ["'ful'", "'full'"]),
        (["text", "--backend", "tensorrt-rtx"], ["tensorrt-rtx", "no ONNX code", "'onnxruntime'"]),
    ],
)
def test_names_that_are_not_there_are_refused(
    arguments: list[str], words: list[str], keepstep: Command, bundle: Path, workplace: Path
) -> None:
    refused(keepstep("debug", "stage", bundle, *arguments, "-o", "taken"), *words)
    assert contents(workplace) == {}


def test_missing_golden_values_are_told_with_the_way_out(
    keepstep: Command, damaged: Path, workplace: Path
) -> None:
    path = damaged / "golden/full.safetensors"
    golden = {n: a.copy() for n, a in load_file(path).items() if not n.startswith("calls.0.")}
    save_file(golden, path)
    seal(damaged)
    outcome = keepstep("debug", "stage", damaged, "text", "-o", "taken")
    refused(outcome, "golden values", "'text' (calls[0])", "export it again")
    manifest = json.loads((damaged / "bundle.json").read_text())
    del manifest["files"]["golden/full.safetensors"]
    (damaged / "bundle.json").write_text(json.dumps(manifest))
    outcome = keepstep("debug", "stage", damaged, "text", "-o", "taken")
    refused(outcome, "has no golden values 'golden/full.safetensors'")
    assert contents(workplace) == {}


def test_a_package_that_is_missing_is_told_with_its_extra(
    keepstep: Command, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = stage_files.find_spec
    monkeypatch.setattr(
        stage_files, "find_spec", lambda name: None if name == "polygraphy" else found(name)
    )
    outcome = keepstep("debug", "stage", bundle, "text", "-o", "taken")
    refused(outcome, "polygraphy, which is not installed", "pip install 'keepstep[debug]'")
    assert not os.path.lexists("taken")


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_a_folder_is_never_half_written(
    error: BaseException,
    keepstep: Command,
    bundle: Path,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = stage_files.write_stage

    def half(stage: object, folder: Path) -> None:
        write(stage, folder)  # type: ignore[arg-type]
        (folder / "outputs.json").unlink()
        raise error

    monkeypatch.setattr(stage_files, "write_stage", half)
    outcome = keepstep("debug", "stage", bundle, "text", "-o", "taken")
    assert outcome.code in (2, 130)
    assert "nothing was" in outcome.err
    assert contents(workplace) == {}


@pytest.mark.parametrize("command", ["stage"])
def test_the_help_shows_an_example(command: str, keepstep: Command) -> None:
    outcome = keepstep("debug", command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"keepstep debug {command} engines/emoji decode -o decode" in outcome.out
