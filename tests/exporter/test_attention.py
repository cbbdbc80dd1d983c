"""Attention as one operator: found wherever a stage attends, and what its formula gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from exporter.played import schedule, variants_of
from exporter.small_stages import EMBEDDED, SHARED
from exporter.spelled_out import Attention
from hypothesis import given, settings
from hypothesis import strategies as st
from models_for_tests import write_xl_model
from onnx import helper
from torch.ops import aten

from keepstep.exporter import models
from keepstep.exporter.engines import BuildOptions, OnnxStage, builder
from keepstep.exporter.engines.attention import DOMAIN, OPERATOR, fuse_attention
from keepstep.exporter.engines.initializers import handed_over
from keepstep.exporter.graph.extract import Subgraph
from keepstep.exporter.graph.precision import lower_precision
from keepstep.exporter.stages.factory import StageFactory
from keepstep.exporter.stages.onnx_from_trace import onnx_from_subgraph
from keepstep.exporter.stages.spec import StageSpec
from keepstep.exporter.stages.weights import make_weight
from keepstep.runtime.backends.onnx_structure import check_onnx
from keepstep.runtime.format.plan import Stage

# Relative to an output's largest number. Float32: the same sums in another order, tens of layers
# deep. Float16: what one form rounds (5e-4), the other holds in float32, as many layers deep.
TOLERANCES = {"float32": 1e-5, "float16": 1e-2}

STAGES = [
    ("text", "float32"),
    ("text", "float16"),
    ("full", "float32"),
    ("pruned", "float16"),
    ("xl", "float32"),
]


@dataclass(frozen=True)
class Converted:
    stage: OnnxStage
    dtype: str
    attentions: int  # in the traced network
    weights: Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def xl_factory(tmp_path_factory: pytest.TempPathFactory) -> StageFactory:
    folder = write_xl_model(tmp_path_factory.mktemp("model") / "xl")
    return StageFactory(models.load(str(folder)), batch=1)


@pytest.fixture(scope="module", params=STAGES, ids="-".join)
def converted(
    request: pytest.FixtureRequest, factory: StageFactory, xl_factory: StageFactory
) -> Converted:
    name, dtype = request.param
    owner = xl_factory if name == "xl" else factory
    if name == "text":
        stage = owner.text()
    else:
        written = schedule("F", prune="ratio: 0.4" if name == "pruned" else "")
        stage = owner.network(variants_of(owner, written)[0])
    subgraph = in_half(stage) if dtype == "float16" else stage.subgraph
    nodes = subgraph.module.graph.find_nodes(
        op="call_function", target=aten.scaled_dot_product_attention.default
    )
    made = onnx_from_subgraph(name, subgraph)
    read = owner.model.checkpoint.tensor
    weights = {weight: make_weight(weight, read).numpy() for weight in made.weights}
    return Converted(made, dtype, len(nodes), weights)


def in_half(stage: StageSpec) -> Subgraph:
    names = (stage.subgraph.inputs, stage.subgraph.outputs)
    half = [[n for n in each if stage.ports[n].lowered] for each in names]
    return lower_precision(stage.subgraph, torch.float16, *half)


def run(engine: bytes, values: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]) -> dict:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    given = [ort.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
    options.add_external_initializers(list(weights), given)
    session = ort.InferenceSession(engine, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(values)), strict=True))


def operators(code: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(code).graph.node)


def test_every_attention_is_one_node_and_no_softmax_is_left(converted: Converted) -> None:
    assert converted.attentions
    assert operators(converted.stage.onnx)["Softmax"] == converted.attentions
    built = onnx.load_from_string(builder("onnxruntime", SHARED).build(converted.stage, None))
    found = Counter((node.domain, node.op_type) for node in built.graph.node)
    assert found[DOMAIN, OPERATOR] == converted.attentions
    assert found["", "Softmax"] == found["", "IsNaN"] == 0


def test_a_stage_gives_the_numbers_that_it_gives_spelled_out(converted: Converted) -> None:
    made, rng = converted.stage, np.random.default_rng(0)
    values = {
        name: rng.integers(0, 50, kind.shape)  # token ids: the vocabulary has 54
        if kind.dtype == "int64"
        else np.asarray(rng.normal(size=kind.shape), kind.dtype)
        for name, kind in made.inputs.items()
    }
    expected = run(handed_over(made), values, converted.weights)
    found = run(builder("onnxruntime", SHARED).build(made, None), values, converted.weights)
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        assert found[name].dtype == wanted.dtype
        exact = wanted.astype(np.float64)
        error = np.abs(found[name] - exact).max()
        assert error <= TOLERANCES[converted.dtype] * np.abs(exact).max()


@pytest.mark.parametrize("options", [SHARED, EMBEDDED], ids=["shared", "embedded"])
def test_an_engine_is_what_the_runtime_takes_for_the_stages_code(
    converted: Converted, options: BuildOptions
) -> None:
    made, inside = converted.stage, options.weights == "embedded"
    arrays = converted.weights.__getitem__
    engine = builder("onnxruntime", options).build(made, arrays if inside else None)
    check_onnx(engine, Stage(made.inputs, made.outputs, {}), {} if inside else made.weights)


@st.composite
def attentions(draw: st.DrawFn) -> Attention:
    sizes = st.integers(1, 9)
    made = Attention(
        batch=draw(st.integers(1, 3)),
        heads=draw(st.integers(1, 4)),
        queries=draw(sizes),
        keys=draw(sizes),
        features=draw(sizes),
        value_features=draw(sizes),
        scales=(draw(st.floats(0.05, 2)), draw(st.floats(0.05, 2))),
        apart=draw(st.tuples(st.booleans(), st.booleans(), st.booleans())),
        dtype=draw(st.sampled_from(["float32", "float16"])),
    )
    if not draw(st.booleans()):
        return made
    spread = (draw(st.sampled_from([1, made.batch])), draw(st.sampled_from([1, made.heads])))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    mask = rng.choice([0.0, -1.5, -65504.0], (*spread, made.queries, made.keys))
    mask[..., 0] = 0  # every query sees a key
    return replace(made, mask=mask, guarded=draw(st.booleans()))


@settings(max_examples=80, deadline=None)  # a busy machine is no failure
@given(attentions())
def test_any_attention_becomes_one_node_that_gives_what_the_formula_gives(made: Attention) -> None:
    stage, values = made.stage(), made.values()
    built = builder("onnxruntime", SHARED).build(stage, None)
    found = operators(built)
    assert found[OPERATOR] == 1
    assert not found.keys() & {"MatMul", "Softmax", "Mul", "IsNaN", "Where"}
    result = run(built, made.given(values), {})["result"]
    # Sums of nine products; for half precision a CPU computes in float32 and rounds to 11 bits.
    tolerance = {"float32": 1e-5, "float16": 2e-3}[made.dtype]
    assert np.abs(result - made.formula(values)).max() <= tolerance * np.abs(values["value"]).max()


def test_heads_are_only_moved_for_what_comes_with_its_heads_apart() -> None:
    for apart in ((False, False, False), (False, True, True), (True, True, True)):
        found = operators(fuse_attention(Attention(apart=apart).stage().onnx))
        assert found["Transpose"] == found["Reshape"] == sum(apart)


def column_mask(*numbers: float) -> np.ndarray:
    """The same for every query."""
    return np.broadcast_to(np.array(numbers), (1, 1, 5, 4))


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(Attention(features=264), id="a head wider than flash attention takes"),
        pytest.param(Attention(value_features=264), id="values wider than that"),
        pytest.param(Attention(scales=(0.5, 0.0)), id="zero, the operator's own choice of scale"),
        pytest.param(Attention(scales=(0.5, -0.7)), id="a negative scale"),
        pytest.param(Attention(mask=np.zeros((1, 4))), id="a mask without pictures and heads"),
        pytest.param(Attention(mask=np.zeros((1, 1, 1, 4))), id="a mask that all queries share"),
        pytest.param(
            Attention(mask=column_mask(*[-np.inf] * 4), guarded=True), id="queries without keys"
        ),
        pytest.param(Attention(guarded=True), id="a guard against what nothing masks"),
    ],
)
def test_what_the_operator_would_not_compute_alike_stays_as_it_is(made: Attention) -> None:
    stage, values = made.stage(), made.values()
    assert operators(fuse_attention(stage.onnx)) == operators(stage.onnx)
    spelled_out, built = handed_over(stage), builder("onnxruntime", SHARED).build(stage, None)
    given = made.given(values)
    np.testing.assert_array_equal(
        run(built, given, {})["result"], run(spelled_out, given, {})["result"]
    )


@pytest.mark.parametrize("value", ["scores", "across"])
def test_what_others_use_of_an_attention_is_still_there(value: str) -> None:
    made = Attention(also=(value,))
    stage, values = made.stage(), made.values()
    built = builder("onnxruntime", SHARED).build(stage, None)
    assert operators(built)[OPERATOR] == 1
    assert operators(built)["Softmax"] == 0
    expected = run(handed_over(stage), made.given(values), {})
    found = run(built, made.given(values), {})
    # Sums of eight and four products, in another order.
    np.testing.assert_allclose(found["result"], expected["result"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[value], expected[value])


def test_a_scale_that_is_no_constant_stays_as_it_is() -> None:
    code = onnx.load_from_string(Attention().stage().onnx)
    (scale,) = [tensor for tensor in code.graph.initializer if tensor.name == "key_scale"]
    code.graph.initializer.remove(scale)
    code.graph.input.append(helper.make_tensor_value_info("key_scale", scale.data_type, []))
    assert operators(fuse_attention(code.SerializeToString()))["Softmax"] == 1


def test_tokens_of_another_shape_are_brought_into_the_operators_own() -> None:
    made = Attention()
    code, values = onnx.load_from_string(made.stage().onnx), made.values()
    given, shape = made.given(values), (made.batch * made.queries, made.heads * made.features)
    (tokens,) = [value for value in code.graph.input if value.name == "query_tokens"]
    tokens.CopyFrom(helper.make_tensor_value_info(tokens.name, onnx.TensorProto.FLOAT, shape))
    fused = fuse_attention(code.SerializeToString())
    assert operators(fused)[OPERATOR] == 1
    found = run(fused, given | {tokens.name: given[tokens.name].reshape(shape)}, {})["result"]
    # Sums of eight and four products, in another order.
    np.testing.assert_allclose(found, made.formula(values), rtol=1e-5, atol=1e-6)


def test_fusing_twice_changes_nothing_more() -> None:
    once = fuse_attention(Attention(apart=(False, True, True)).stage().onnx)
    assert fuse_attention(once) == once


def test_embedded_weights_find_attention_fused_too() -> None:
    built = builder("onnxruntime", EMBEDDED).build(Attention().stage(), {}.__getitem__)
    assert operators(built)[OPERATOR] == 1
