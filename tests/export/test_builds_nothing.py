"""What was traced, converted or built once is never made again: the cost that exports promise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.drawn import distance, drawn, played
from exports_for_tests import with_sampler
from models_for_tests import PICTURE, write_model
from safetensors.numpy import load_file, save_file

from keepstep.exporter import export, models
from keepstep.exporter.engines import BuildOptions, builder
from keepstep.exporter.engines.onnxruntime import OnnxRuntimeBuilder
from keepstep.exporter.errors import ModelError
from keepstep.exporter.folder.content import Content
from keepstep.exporter.folder.model_folder import Choice, find_folder
from keepstep.exporter.request import ExportRequest
from keepstep.exporter.schedule.schema import Schedule, parse
from keepstep.exporter.stages import compiled
from keepstep.exporter.stages import factory as stages
from keepstep.exporter.stages.factory import StageFactory
from keepstep.exporter.stages.variant import NetworkVariant
from keepstep.runtime import Bundle

# The bar for a checkpoint that was not there when its engines were built.
TOLERANCE = 1e-3

UNET = "unet/diffusion_pytorch_model.safetensors"
PLAIN = with_sampler("euler")


def cached(name: str, scheduler: str, calls: str) -> Schedule:
    sampler = f"{{scheduler: {scheduler}, steps: {len(calls)}}}"
    lines = ("keepstep: 1", f"name: {name}", f"sampler: {sampler}", "cache: {branch: 0}")
    return parse("\n".join([*lines, f'calls: "{calls}"']))


SCHEDULES = [PLAIN, cached("cached", "EulerDiscreteScheduler", "FssF.s")]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is known but what the exports of this file make, whatever ran before it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEEPSTEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def bundle(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(small_folder, SCHEDULES, tmp_path_factory.mktemp("bundle") / "first")


@pytest.fixture
def made(bundle: Bundle) -> Iterator[Counter[str]]:
    """Counts what exports make from here on."""
    counted: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (stages, "trace"),
            (compiled, "onnx_from_subgraph"),
            (OnnxRuntimeBuilder, "build"),
        ):
            patch.setattr(owner, name, _counting(getattr(owner, name), name, counted))
        yield counted


def _counting(function: Callable[..., Any], name: str, counted: Counter[str]) -> Callable[..., Any]:
    def counting(*arguments: Any, **named: Any) -> Any:
        counted[name] += 1
        return function(*arguments, **named)

    return counting


def test_what_is_new_is_counted(made: Counter[str], small_folder: Path, tmp_path: Path) -> None:
    """The other tests of this file look at a counter that does count."""
    image = parse(
        "keepstep: 1\nname: edit\nsampler: {scheduler: EulerDiscreteScheduler, steps: 8, "
        "strength: 0.5}\ncalls: {repeat: F}"
    )
    export(small_folder, [image], tmp_path / "out", verify="none")
    assert made == {"trace": 1, "onnx_from_subgraph": 1, "build": 1}  # the stage that encodes


@pytest.mark.parametrize("place", ["its own", "another"])
def test_a_second_export_of_the_same_thing_is_the_same_bundle(
    place: str, made: Counter[str], bundle: Bundle, small_folder: Path, tmp_path: Path
) -> None:
    before = files_of(bundle.path)
    if place == "its own":  # a copy: a bundle that is open does not outlive its exchange
        shutil.copytree(bundle.path, tmp_path / "out")
    again = export(small_folder, SCHEDULES, tmp_path / "out")
    assert not made
    assert files_of(again.path) == before


def test_a_schedule_of_known_stages_builds_nothing(
    made: Counter[str], small_folder: Path, tmp_path: Path
) -> None:
    schedules = [with_sampler("dpm"), cached("other", "DPMSolverMultistepScheduler", "Fs.sF")]
    export(small_folder, schedules, tmp_path / "out", verify="none")
    assert not made
    export(small_folder, schedules, tmp_path / "out")
    assert set(made) == {"trace"}, "what it is verified with runs in torch"


def test_another_checkpoint_of_the_same_architecture_builds_nothing(
    made: Counter[str], bundle: Bundle, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "other", levels=2, seed=1)
    other = export(folder, SCHEDULES, tmp_path / "out", verify="none")
    assert not made
    assert engines_of(other) == engines_of(bundle)
    found = played(other, PLAIN.name)["latents"]
    assert distance(found, drawn(folder, PLAIN.name)) <= TOLERANCE
    assert distance(found, played(bundle, PLAIN.name)["latents"]) > 0.1


def test_a_lora_builds_nothing_and_leaves_the_engines_alone(
    made: Counter[str], bundle: Bundle
) -> None:
    before = files_of(bundle.path)
    module = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    rng = np.random.default_rng(0)
    factors = {
        f"{module}.lora_{half}.weight": rng.standard_normal(shape, dtype=np.float32)
        for half, shape in (("A", (2, 24)), ("B", (24, 2)))
    }
    styled = played(bundle.with_loras([(factors, 1.0)]), "cached")["latents"]
    assert not made
    assert files_of(bundle.path) == before
    assert not np.array_equal(styled, played(bundle, "cached")["latents"])


def test_an_altered_checkpoint_is_not_taken_for_the_old_one(
    made: Counter[str], bundle: Bundle, small_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(small_folder, tmp_path / "copy"))
    export(folder, SCHEDULES, tmp_path / "out", verify="none")
    double_last_weight(folder / UNET)
    altered = export(folder, SCHEDULES, tmp_path / "out", verify="none")
    assert not made
    expected = 2 * bundle.array("weights.safetensors", "unet.conv_out.weight")
    np.testing.assert_array_equal(
        altered.array("weights.safetensors", "unet.conv_out.weight"), expected
    )
    # Another folder of that name and content is the same model, wherever it lies.
    moved = folder.rename(tmp_path / "moved")
    again = export(moved, SCHEDULES, tmp_path / "again", verify="none")
    assert not made
    assert again.manifest.model["name"] == "moved"
    files = "weights.safetensors"
    assert again.manifest.files[files] == altered.manifest.files[files]


def double_last_weight(file: Path) -> None:
    """Another model in the same file: of the same size and, as archives keep it, the same time."""
    before, weights = file.stat(), load_file(file)
    weights["conv_out.weight"] *= 2
    save_file(weights, file, {"format": "pt"})
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("how", ["another folder", "rewritten behind the link"])
def test_a_linked_component_is_looked_into(
    how: str, made: Counter[str], bundle: Bundle, small_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(small_folder, tmp_path / "copy"))
    first = (folder / "unet").rename(tmp_path / "first")
    second = Path(shutil.copytree(first, tmp_path / "second"))
    (folder / "unet").symlink_to(first)
    export(folder, SCHEDULES, tmp_path / "out", verify="none")
    if how == "another folder":
        double_last_weight(second / Path(UNET).name)
        (folder / "unet").unlink()
        (folder / "unet").symlink_to(second)
    else:
        double_last_weight(first / Path(UNET).name)
    altered = export(folder, SCHEDULES, tmp_path / "out", verify="none")
    assert not made
    found = altered.array("weights.safetensors", "unet.conv_out.weight")
    expected = bundle.array("weights.safetensors", "unet.conv_out.weight")
    np.testing.assert_array_equal(found, 2 * expected)


def test_an_unchanged_folder_is_neither_hashed_nor_loaded_again(
    bundle: Bundle, small_folder: Path, tmp_path: Path
) -> None:
    settle(small_folder)
    export(small_folder, SCHEDULES, tmp_path / "out")  # the folder may have been new before
    code = """
import sys
from keepstep.exporter import export
from keepstep.exporter.folder import content
def hashed(path, within): raise AssertionError(path)
content._sha256 = hashed
from keepstep.exporter.schedule.schema import Schedule
export(sys.argv[1], [Schedule.load(path) for path in sys.argv[3:]], sys.argv[2])
assert not {"torch", "diffusers", "transformers"}.intersection(sys.modules)
"""
    schedules = [bundle.file(f"schedules/{name}.yaml") for name in bundle.plans]
    out = tmp_path / "again"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, small_folder, out, *schedules]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert files_of(out) == files_of(tmp_path / "out")


def test_weights_that_are_not_finite_are_refused_whatever_is_verified(
    bundle: Bundle, small_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(small_folder, tmp_path / "copy"))
    weights = load_file(folder / UNET)
    weights["conv_out.bias"][1] = np.nan
    save_file(weights, folder / UNET, {"format": "pt"})
    with pytest.raises(ModelError, match=r"weight unet\.conv_out\.bias: 1 of 4 numbers are not"):
        export(folder, SCHEDULES, tmp_path / "out", verify="none")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_changes_while_it_is_exported_is_refused(
    bundle: Bundle, small_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(small_folder, tmp_path / "changing"))
    weights = load_file(folder / UNET)

    def write(factor: float) -> None:
        scaled = weights | {"conv_out.weight": factor * weights["conv_out.weight"]}
        save_file(scaled, folder / UNET, {"format": "pt"})

    def change(what: str, done: int, total: int) -> None:
        if what == "convert time":  # hashed by then, and not read yet
            write(5)

    write(3)
    with pytest.raises(ModelError, match="changed while the model was exported; nothing was wr"):
        export(folder, SCHEDULES, tmp_path / "out", verify="none", progress=change)
    assert not (tmp_path / "out").exists()
    # Nor has the cache kept what was made of other weights than those that were hashed.
    write(3)
    again = export(folder, SCHEDULES, tmp_path / "out", verify="none")
    np.testing.assert_array_equal(
        again.array("weights.safetensors", "unet.conv_out.weight"),
        3 * bundle.array("weights.safetensors", "unet.conv_out.weight"),
    )


def settle(folder: Path) -> None:
    """Wait until the times of a folder's files would tell a change."""
    latest = max(path.stat().st_ctime for path in folder.rglob("*") if path.is_file())
    time.sleep(max(0.0, latest + 2.1 - time.time()))


def test_every_part_of_a_request_is_part_of_its_key(small_folder: Path) -> None:
    shared = [builder("onnxruntime", BuildOptions())]
    request = ExportRequest(str(small_folder), [PLAIN], shared)
    others = [
        replace(request, schedules=SCHEDULES),
        replace(request, builders=[builder("onnxruntime", BuildOptions(weights="embedded"))]),
        replace(request, height=2 * PICTURE),
        replace(request, width=2 * PICTURE),
        replace(request, batch=2),
        replace(request, dtype="float16"),
        replace(request, dtype="float16", float32=["decode"]),
        replace(request, dtype="float16", float32=["text"]),
        replace(request, embedded=True),
        replace(request, verify="none"),
        replace(request, choice=Choice(variant="fp16")),
        replace(request, choice=Choice(without_t5=True)),
    ]
    folder = find_folder(str(small_folder))
    content = Content(folder, "0" * 64, {})
    keys = {other.key(content) for other in [request, *others]}
    keys |= {request.key(replace(content, sha256="1" * 64))}
    keys |= {request.key(replace(content, folder=replace(folder, name="another")))}
    assert len(keys) == 1 + len(others) + 2


def test_stages_of_other_sizes_and_batches_are_other_stages(small_folder: Path) -> None:
    factories = [
        StageFactory(models.load(str(small_folder), *size, weights=False), batch)
        for size, batch in (((), 1), ((), 2), ((2 * PICTURE, PICTURE), 1))
    ]
    network, longer = (NetworkVariant("full", None, None, window) for window in (64, 128))
    made = [(f.text(), f.time(), f.network(network), f.decode(64)) for f in factories]
    for first, *others in zip(*made, strict=True):
        assert all(other != first for other in others), first.name
    assert factories[0].network(network) != factories[0].network(longer)


def files_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def engines_of(bundle: Bundle) -> set[str]:
    """Their paths, which say their content."""
    return {path for path in bundle.manifest.files if path.startswith("stages/")}
