"""Stages as ONNX models: the same numbers in ONNX Runtime, and nothing in the file but code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from exporter.played import Values, call_inputs, hoisted, run_stage, schedule, variants_of
from models_for_tests import PROMPT_LENGTH
from onnx import TensorProto, numpy_helper

import keepstep.exporter
from keepstep.exporter.engines import BuildOptions, OnnxStage, builder
from keepstep.exporter.graph.extract import extract
from keepstep.exporter.graph.trace import trace
from keepstep.exporter.models import Model
from keepstep.exporter.stages.factory import StageFactory
from keepstep.exporter.stages.onnx_from_trace import onnx_from_subgraph
from keepstep.exporter.stages.spec import StageSpec
from keepstep.exporter.stages.weights import make_weight

ONNX_RUNTIME = builder("onnxruntime", BuildOptions())
STAGES = ["text", "prompt", "full", "shallow", "decode"]
PRUNE = "ratio: 0.5, alpha: 1"
TOKENS = 16 * 16


@dataclass(frozen=True)
class Built:
    source: StageSpec
    stage: OnnxStage
    weights: Mapping[str, np.ndarray]
    data: bytes
    model: onnx.ModelProto
    values: Values  # an input for everything that the stage takes


def sources(factory: StageFactory) -> dict[str, StageSpec]:
    full, _ = variants_of(factory, schedule("Fs", "branch: 0"))
    _, shallow = variants_of(factory, schedule("Fs", "branch: 0", PRUNE))
    return {
        "text": factory.text(),
        "prompt": factory.prompt(),
        "full": factory.network(full),
        "shallow": factory.network(shallow),
        "decode": factory.decode(full.window),
    }


@pytest.fixture(scope="module")
def stages(model: Model, factory: StageFactory) -> Mapping[str, Built]:
    found = {}
    full, _ = variants_of(factory, schedule("Fs", "branch: 0"))
    values = hoisted(factory, call_inputs(model, full.window))
    values["cached"] = run_stage(model, factory.network(full), values)["cached"]
    values |= model.text.inputs(["a red apple"], [""])
    for name, source in sources(factory).items():
        stage = onnx_from_subgraph(name, source.subgraph)
        data = ONNX_RUNTIME.build(stage, None)
        taken = {name: values[name] for name in source.subgraph.inputs}
        weights = {n: make_weight(n, model.checkpoint.tensor).numpy() for n in stage.weights}
        found[name] = Built(source, stage, weights, data, onnx.load_from_string(data), taken)
    return found


def run_onnx(built: Built) -> dict[str, np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_external_initializers(
        list(built.weights), [ort.OrtValue.ortvalue_from_numpy(a) for a in built.weights.values()]
    )
    session = ort.InferenceSession(built.data, options, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    assert outputs == list(built.source.subgraph.outputs)
    assert [i.name for i in session.get_inputs()] == list(built.source.subgraph.inputs)
    found = session.run(outputs, {name: value.numpy() for name, value in built.values.items()})
    return dict(zip(outputs, found, strict=True))


@pytest.mark.parametrize("name", STAGES)
def test_onnx_runtime_gives_what_torch_gives(
    model: Model, stages: Mapping[str, Built], name: str
) -> None:
    built = stages[name]
    found, expected = run_onnx(built), run_stage(model, built.source, built.values)
    assert set(found) == set(expected)
    for output, array in found.items():
        wanted = expected[output].numpy()
        assert array.dtype == wanted.dtype
        if array.dtype == np.uint8:  # rounding can fall on the other side by one
            assert np.abs(array.astype(int) - wanted.astype(int)).max() <= 1
        else:  # Float32 kernels of two libraries, tens of layers deep.
            assert np.abs(array - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("name", STAGES)
def test_weights_are_all_outside_of_the_file(stages: Mapping[str, Built], name: str) -> None:
    built = stages[name]
    external = [t for t in built.model.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    assert {t.name for t in external} == set(built.stage.weights)
    for tensor in external:
        assert tuple(tensor.dims) == built.weights[tensor.name].shape
        assert built.stage.weights[tensor.name].shape == built.weights[tensor.name].shape
        assert not tensor.raw_data
    embedded = [t for t in built.model.graph.initializer if t not in external]
    floats = [t for t in embedded if t.data_type == TensorProto.FLOAT]
    # Scalars, scales of a resize, and the text encoder's causal mask, for both prompts.
    assert all(np.prod(t.dims) <= 2 * PROMPT_LENGTH**2 for t in floats)
    assert all(np.prod(t.dims) < TOKENS * 8 for t in embedded), "index tables at most"
    assert len(built.data) < 300_000


@pytest.mark.parametrize("name", STAGES)
def test_weights_are_the_checkpoints_in_another_layout_at_most(
    model: Model, stages: Mapping[str, Built], name: str
) -> None:
    built = stages[name]
    for key, array in built.weights.items():
        path, _, layout = key.partition(":")
        original = model.checkpoint.tensor(path).numpy()
        if layout:
            np.testing.assert_array_equal(np.sort(array, None), np.sort(original, None))
        else:
            np.testing.assert_array_equal(array, original)


@pytest.mark.parametrize("name", ["text", "shallow"])
def test_a_second_factory_builds_the_same_bytes(
    model: Model, stages: Mapping[str, Built], name: str
) -> None:
    source = sources(StageFactory(model, batch=1))[name]
    again = onnx_from_subgraph(name, source.subgraph)
    assert again == stages[name].stage
    assert ONNX_RUNTIME.build(again, None) == stages[name].data


@pytest.mark.parametrize("name", STAGES)
def test_the_file_says_nothing_of_the_machine_that_made_it(
    stages: Mapping[str, Built], name: str
) -> None:
    built = stages[name]
    model = built.model
    assert not model.metadata_props
    assert not model.doc_string
    assert not model.graph.doc_string
    assert not model.functions
    for node in model.graph.node:
        assert not node.metadata_props
        assert not node.doc_string
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        assert not value.metadata_props
        assert not value.doc_string
    package = Path(keepstep.exporter.__file__).parent
    for mark in (b".py", b"site-packages", bytes(package), bytes(Path.home()), b"torch."):
        assert mark not in built.data


def topk_sizes(model: onnx.ModelProto) -> list[int]:
    constants = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = node.attribute[0].t
    nodes = [node for node in model.graph.node if node.op_type == "TopK"]
    return [int(numpy_helper.to_array(constants[node.input[1]]).item()) for node in nodes]


def test_a_pruned_stage_has_one_top_k_a_block_over_the_smaller_side_and_a_full_one_none(
    stages: Mapping[str, Built],
) -> None:
    others = TOKENS - TOKENS // 4 - TOKENS // 2  # neither base tokens nor pruned
    assert topk_sizes(stages["shallow"].model) == [others]
    assert topk_sizes(stages["full"].model) == []


@pytest.mark.parametrize("name", STAGES)
def test_no_operation_is_one_that_engines_do_not_take(
    stages: Mapping[str, Built], name: str
) -> None:
    """No sequences, no loops, no scatter of features: only index maps are scattered."""
    code = onnx.load_from_string(stages[name].stage.onnx)
    model = onnx.shape_inference.infer_shapes(code)
    graph = model.graph
    known = (*graph.value_info, *graph.input, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in known}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        assert "Sequence" not in node.op_type
        assert node.op_type not in ("Loop", "If", "Scan", "NonZero", "Unique")
        assert node.domain == ""
        if node.op_type.startswith("Scatter"):
            for tensor in (node.input[0], node.output[0]):
                assert types[tensor] in (TensorProto.INT64, TensorProto.INT32)


@pytest.mark.parametrize("name", STAGES)
def test_every_shape_is_static(stages: Mapping[str, Built], name: str) -> None:
    graph = stages[name].model.graph
    assert graph.input
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            assert dim.WhichOneof("value") == "dim_value"


def test_a_linear_layer_needs_no_transpose_while_it_runs() -> None:
    """The layout change of a weight is folded into the weight."""
    layer = torch.nn.Linear(3, 5)
    traced = trace(layer, {"input": torch.zeros(2, 4, 3)})
    subgraph = extract(traced, {traced.inputs["input"]: "x"}, {traced.outputs[0]: "y"})
    stage = onnx_from_subgraph("layer", subgraph)
    operations = [node.op_type for node in onnx.load_from_string(stage.onnx).graph.node]
    assert "Transpose" not in operations
    assert {name.partition(":")[0] for name in stage.weights} == {"weight", "bias"}
