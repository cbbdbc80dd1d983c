"""Models of published sizes with zeros as weights: what depends on shapes alone.

Shapes decide what is in a stage, what is built of it and how large that is; numbers do not. Of the
larger models only what needs one trace is converted: a full stage takes minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import pytest
from checkpoints import ARCHITECTURES, shapes, write_checkpoint
from exporter.small_stages import RTX

from keepstep.exporter import export, models
from keepstep.exporter.engines import BuildOptions, OnnxStage, builder
from keepstep.exporter.engines.tensorrt import TensorRTBuilder
from keepstep.exporter.graph.weight_layout import path_of
from keepstep.exporter.plan.lowering import LoweredSchedule, lower_schedule
from keepstep.exporter.schedule.schema import Schedule
from keepstep.exporter.stages.compiled import Precision, StageCompiler
from keepstep.exporter.stages.factory import StageFactory
from keepstep.exporter.store.cache import Cache
from keepstep.playing.summary import describe
from keepstep.runtime import Bundle
from keepstep.runtime.format.plan import TensorType

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an architecture, its weights all holes."""
    root = tmp_path_factory.mktemp("real")

    def written(name: str) -> Path:
        return write_checkpoint(ARCHITECTURES[name], root / name)

    return written


@pytest.fixture(scope="module")
def sd15(folder: Callable[[str], Path]) -> Path:
    return folder("sd15")


def export_sd15(sd15: Path, out: Path) -> Bundle:
    schedules = ("deepcache-n3", "dato-coco")
    return export(sd15, schedules, out, ["tensorrt-rtx"], dtype="float16", verify="none")


@pytest.fixture(scope="module")
def sd15_bundle(sd15: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two schedules, pruned and not: four variants of a step, in float16 for TensorRT-RTX."""
    return export_sd15(sd15, tmp_path_factory.mktemp("bundle") / "sd15")


@RTX
def test_every_stage_of_sd15_is_built_without_a_gpu(sd15_bundle: Bundle) -> None:
    plans = {name: sd15_bundle.plan(name) for name in sd15_bundle.plans}
    around = ["text", "prompt", "decode"]
    assert sorted(plans["deepcache-n3"].stages) == sorted([*around, "full", "shallow"])
    pruned = ["full-dato0.4", "shallow-dato0.4"]
    assert sorted(plans["dato-coco"].stages) == sorted([*around, *pruned])
    used = {
        stage.engines["tensorrt-rtx"] for plan in plans.values() for stage in plan.stages.values()
    }
    assert used == {path for path in sd15_bundle.manifest.files if path.startswith("stages/")}
    assert len(used) == 3 + 4, "what is around the network is shared"


@RTX
@pytest.mark.parametrize("name", ["deepcache-n3", "dato-coco"])
def test_the_arena_of_sd15_is_hardly_larger_than_what_is_alive_at_once(
    sd15_bundle: Bundle, name: str
) -> None:
    numbers = describe(sd15_bundle.plan(name))
    assert numbers["alive_bytes"] <= numbers["arena_bytes"] <= 1.1 * numbers["alive_bytes"]


@RTX
def test_the_tensors_of_sd15s_plans_have_the_networks_sizes(sd15_bundle: Bundle) -> None:
    plan = sd15_bundle.plan("dato-coco")
    full, shallow = plan.stages["full-dato0.4"], plan.stages["shallow-dato0.4"]
    assert full.inputs["noise"].shape == (1, 4, 64, 64)
    assert full.inputs["history"].shape == (64, 2, 1, 4, 64, 64)
    # What enters the last unit of the way up, 320 channels wide; both guidance halves.
    assert full.outputs["cached"] == shallow.inputs["cached"]
    assert (full.outputs["cached"].dtype, full.outputs["cached"].shape) == (
        "float16",
        (2, 320, 64, 64),
    )
    assert full.outputs["prediction"].dtype == "float32"
    assert [step.kept for step in plan.steps if step.label == "full"] == [
        4096 - int(0.4 * 4096)
    ] * 5
    prompt = plan.stages["prompt"].outputs
    assert len(prompt) == 2 * 16, "a key and a value of each transformer block"
    assert {tensor.dtype for tensor in prompt.values()} == {"float16"}


@RTX
def test_a_bundle_with_four_step_variants_weighs_hardly_more_than_its_weights(
    sd15_bundle: Bundle,
) -> None:
    weights = (sd15_bundle.path / "weights.safetensors").stat().st_size
    whole = sum(path.stat().st_size for path in sd15_bundle.path.rglob("*") if path.is_file())
    assert weights > 2 * 859_520_964, "the UNet alone has these parameters, in float16"
    # The bar that the bundles are designed for: one copy of the weights, and code of some MB.
    assert whole <= 1.1 * weights


@RTX
def test_exporting_the_same_again_builds_nothing(
    sd15: Path, sd15_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: object) -> bytes:
        raise AssertionError("built again")

    monkeypatch.setattr(TensorRTBuilder, "build", build)
    again = export_sd15(sd15, sd15_bundle.path.parent / "again")
    assert again.manifest.files == sd15_bundle.manifest.files


@dataclass(frozen=True)
class Cheap:
    """Stages of a model that need one trace and are built fast."""

    unet: Mapping[str, tuple[int, ...]]  # shapes by the names of the checkpoint
    lowered: LoweredSchedule
    time: OnnxStage
    prompt: OnnxStage
    shallow: OnnxStage


def cheap(folder: Path, name: str, schedule: str, cache: Path) -> Cheap:
    """Traced, lowered to float16 and converted; the time stage stays in float32, as ever."""
    model = models.load(str(folder), weights=False)
    factory = StageFactory(model, 1)
    lowered = lower_schedule(model, factory, Schedule.load(schedule))
    shallow = factory.network(lowered.variants[1])
    half = Precision("float16")
    with Cache(cache) as opened:
        compiler = StageCompiler(opened)
        return Cheap(
            shapes(ARCHITECTURES[name]["unet"]),
            lowered,
            compiler.convert(factory.time(), Precision("float32")).code,
            compiler.convert(factory.prompt(), half).code,
            compiler.convert(shallow, half).code,
        )


@pytest.fixture(scope="module")
def sd21(folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Cheap:
    return cheap(folder("sd21"), "sd21", "deepcache-n3", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def sdxl(folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Cheap:
    return cheap(folder("sdxl"), "sdxl", "sdxl-dato", tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(("name", "side", "width"), [("sd21", 96, 1024), ("sdxl", 128, 2048)])
def test_shallow_and_prompt_stages_have_the_networks_sizes(
    request: pytest.FixtureRequest, name: str, side: int, width: int
) -> None:
    stages: Cheap = request.getfixturevalue(name)
    latents = (1, 4, side, side)
    inputs, outputs = stages.shallow.inputs, stages.shallow.outputs
    assert inputs["noise"] == TensorType("float32", latents)
    assert inputs["history"] == TensorType("float32", (64, 2, *latents))
    assert inputs["cached"] == TensorType("float16", (2, 320, side, side))
    assert outputs == {"prediction": TensorType("float32", (1, 2, *latents))}
    assert stages.prompt.inputs["prompt_embeds"] == TensorType("float32", (1, 77, width))
    times = {n: t.shape for n, t in stages.time.outputs.items()}
    for tensor, taken in inputs.items():
        if tensor.startswith("time."):
            assert taken.shape == times[tensor]
        if tensor.startswith("prompt."):
            assert taken == stages.prompt.outputs[tensor]


@pytest.mark.parametrize("name", ["sd21", "sdxl"])
def test_weights_are_the_checkpoints_and_stay_outside_of_the_code(
    request: pytest.FixtureRequest, name: str
) -> None:
    stages: Cheap = request.getfixturevalue(name)
    for stage, dtype in (
        (stages.time, "float32"),
        (stages.prompt, "float16"),
        (stages.shallow, "float16"),
    ):
        assert stage.weights
        for weight, tensor in stage.weights.items():
            path = path_of(weight).removeprefix("unet.")
            assert tensor.size == prod(stages.unet[path]), weight
        products = {t.dtype for w, t in stage.weights.items() if len(stages.unet[_own(w)]) > 1}
        assert products == {dtype}
        weighs = sum(tensor.bytes for tensor in stage.weights.values())
        assert len(stage.onnx) < weighs / 3, "code, which is small beside any stage's weights"
    keys = {
        path for path in stages.unet if path.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    }
    assert keys <= {_own(weight) for weight in stages.prompt.weights}
    assert not keys & {_own(weight) for weight in stages.shallow.weights}


def _own(weight: str) -> str:
    """A weight's path within the UNet."""
    return path_of(weight).removeprefix("unet.")


def test_sdxl_prunes_where_it_attends_and_its_shallow_calls_prune_nothing(sdxl: Cheap) -> None:
    full, shallow = dict.fromkeys(variant.name for variant in sdxl.lowered.variants)
    assert (full, shallow) == ("full-dato0.4", "shallow")
    calls = zip(sdxl.lowered.calls, sdxl.lowered.kept, strict=True)
    kept = {call.kind: kept for call, kept in calls}
    assert kept == {"full": 64 * 64 - int(0.4 * 64 * 64), "shallow": None, "skip": None}
    assert not {"score_weights", "selection_noise"} & set(sdxl.shallow.inputs)


@RTX
@pytest.mark.parametrize("name", ["sd21", "sdxl"])
def test_a_shallow_stage_is_built_without_a_gpu(request: pytest.FixtureRequest, name: str) -> None:
    stages: Cheap = request.getfixturevalue(name)
    engine = builder("tensorrt-rtx", BuildOptions()).build(stages.shallow, None)
    weighs = sum(tensor.bytes for tensor in stages.shallow.weights.values())
    assert 0 < len(engine) < weighs, "the weights are no part of it"
