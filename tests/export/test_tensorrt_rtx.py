"""Every stage of a model becomes a TensorRT-RTX engine, on a machine without a GPU."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exporter.small_stages import RTX
from exports_for_tests import BUILT_IN
from onnx import helper

from keepstep.exporter import export
from keepstep.exporter.engines import BuildOptions, OnnxStage, tensorrt
from keepstep.exporter.engines.stage import check_interface
from keepstep.runtime import Bundle
from keepstep.runtime.format.plan import Stage, TensorType

pytestmark = RTX


@dataclass
class Built:
    """A bundle, and what was looked at while its engines were built."""

    bundle: Bundle
    stages: list[OnnxStage] = field(default_factory=list)
    checked: list[tuple[Any, Any]] = field(default_factory=list)  # of a parsed network: expected


@pytest.fixture(scope="module")
def built(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Float16, all built-in schedules; no other test has these engines built and cached."""
    stages: list[OnnxStage] = []
    checked: list[tuple[Any, Any]] = []
    build = tensorrt.TensorRTBuilder.build

    def noting(builder: Any, stage: OnnxStage, weights: Any) -> bytes:
        stages.append(stage)
        return build(builder, stage, weights)

    def checking(where: str, found: Any, expected: Any) -> None:
        checked.append(expected)
        check_interface(where, found, expected)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorrt.TensorRTBuilder, "build", noting)
        patch.setattr(tensorrt, "check_interface", checking)
        bundle = export(
            tiny_folder,
            BUILT_IN,
            tmp_path_factory.mktemp("bundle") / "rtx",
            backends=["tensorrt-rtx"],
            dtype="float16",
            verify="stages",
        )
    return Built(bundle, stages, checked)


def stages_of(bundle: Bundle) -> dict[str, Stage]:
    """By engine: plans share them."""
    plans = [bundle.plan(name) for name in bundle.plans]
    return {s.engines["tensorrt-rtx"]: s for plan in plans for s in plan.stages.values()}


def test_every_stage_of_every_plan_has_an_engine_and_each_is_built_once(built: Built) -> None:
    stages = stages_of(built.bundle)
    assert Counter(stage.name.partition("-")[0] for stage in built.stages) == {
        "text": 1,
        "prompt": 1,
        "full": 3,  # plain, cached, and cached with pruning
        "shallow": 2,  # plain, and with pruning
        "decode": 1,
    }
    assert len(stages) == len(built.stages)
    Bundle.open(built.bundle.path, verify_hashes=True)


def test_the_code_that_is_built_has_the_tensors_of_the_plan(built: Built) -> None:
    expected = [
        (stage.inputs, stage.outputs, stage.weights.keys())
        for stage in stages_of(built.bundle).values()
    ]
    for made in built.stages:
        graph = onnx.load_model_from_string(made.onnx).graph
        inputs, outputs = types_of(graph.input), types_of(graph.output)
        assert inputs == {**made.inputs, **made.weights}
        assert outputs == made.outputs
        assert (made.inputs, made.outputs, made.weights.keys()) in expected


def test_every_parsed_network_is_compared_with_its_stage(built: Built) -> None:
    assert built.checked == [
        ({**stage.inputs, **stage.weights}, stage.outputs) for stage in built.stages
    ]


def test_shared_weights_are_not_in_an_engine_and_embedded_ones_are(built: Built) -> None:
    stage = min(built.stages, key=lambda stage: sum(t.bytes for t in stage.weights.values()))
    rng = np.random.default_rng(0)
    arrays = {n: rng.random(t.shape).astype(t.dtype) for n, t in stage.weights.items()}
    whole = tensorrt.TensorRTBuilder("tensorrt-rtx", BuildOptions(weights="embedded"))
    code = tensorrt.TensorRTBuilder("tensorrt-rtx", BuildOptions())
    size = sum(array.nbytes for array in arrays.values())
    assert len(whole.build(stage, arrays.__getitem__)) > len(code.build(stage, None)) + size / 2


def types_of(values: Any) -> dict[str, TensorType]:
    """Names, dtypes and shapes of a graph's inputs or outputs."""
    found = {}
    for value in values:
        tensor = value.type.tensor_type
        shape = tuple(axis.dim_value for axis in tensor.shape.dim)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        found[value.name] = TensorType(str(dtype), shape)
    return found
