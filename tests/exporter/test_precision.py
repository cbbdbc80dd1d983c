"""Lowering to half precision: what is computed in which dtype, and that it comes out the same."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import pytest
import torch
from exporter.played import call_inputs, hoisted, run_stage
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from keepstep.exporter.graph.extract import Subgraph, extract
from keepstep.exporter.graph.precision import all_nodes, lower_precision, nodes_of_kinds
from keepstep.exporter.graph.trace import trace
from keepstep.exporter.stages.factory import StageFactory
from keepstep.exporter.stages.variant import NetworkVariant
from keepstep.exporter.stages.weights import make_weight

aten = torch.ops.aten
HALVES = [torch.float16, torch.bfloat16]
Case = tuple[Subgraph, Callable[[str], Tensor], dict[str, Tensor]]
# A rounding is 5e-4 or 4e-3, and tens of layers add theirs up: those of `keepstep verify`.
TOLERANCES = {torch.float16: 2e-2, torch.bfloat16: 1e-1}


class Layers(nn.Module):
    """A product, a norm, attention, an index that is computed, and what does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.linear = nn.Linear(8, 8)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor, handed: Tensor) -> tuple[Tensor, Tensor]:
        y = nn.functional.silu(self.norm(self.conv(x))).flatten(2).mT
        y = self.dropout(self.linear(y.contiguous().float()))
        y = nn.functional.scaled_dot_product_attention(y, y, y)
        best = y.mean(dim=2).argmax(dim=1)
        chosen = y[torch.arange(y.shape[0]), best]
        return chosen * handed, y


@pytest.fixture(scope="module")
def layers() -> Case:
    """The float32 subgraph, its weights, and inputs."""
    torch.manual_seed(0)
    module = Layers().eval()
    inputs = {"x": torch.randn(2, 4, 6, 6), "handed": torch.randn(2, 8)}
    return subgraph_of(module, inputs, ("chosen", "y")), reader(module), inputs


def subgraph_of(
    module: nn.Module, inputs: Mapping[str, Tensor], outputs: Collection[str]
) -> Subgraph:
    traced = trace(module, inputs)
    given = {node: name for name, node in traced.inputs.items()}
    return extract(traced, given, dict(zip(traced.outputs, outputs, strict=True)))


def reader(module: nn.Module) -> Callable[[str], Tensor]:
    return dict(module.named_parameters()).__getitem__


@torch.no_grad()
def run(
    subgraph: Subgraph, read: Callable[[str], Tensor], inputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Outputs by name, from inputs in the dtypes that the subgraph says."""
    told = [inputs[name].to(example.dtype) for name, example in subgraph.inputs.items()]
    weights = [make_weight(name, read) for name in subgraph.weights]
    return dict(zip(subgraph.outputs, subgraph.module(*told, *weights), strict=True))


def nodes(subgraph: Subgraph) -> list[fx.Node]:
    return [node for node in subgraph.module.graph.nodes if node.op == "call_function"]


def dtype_of(node: fx.Node) -> torch.dtype:
    value = node.meta["val"]
    dtype: torch.dtype = (value[0] if isinstance(value, (tuple, list)) else value).dtype
    return dtype


def check_casts(subgraph: Subgraph) -> None:
    """No float64, no cast to what a value is already, and none that is made twice."""
    casts = [node for node in nodes(subgraph) if node.target is aten.to.dtype]
    assert all(dtype_of(node.all_input_nodes[0]) != node.args[1] for node in casts)
    assert len({node.args for node in casts}) == len(casts)
    assert torch.float64 not in {dtype_of(node) for node in nodes(subgraph)}


def check_close(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], half: torch.dtype
) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        error = (found[name].float() - value).norm() / value.norm()
        assert error <= TOLERANCES[half], name


@pytest.mark.parametrize("half", HALVES)
def test_outputs_are_close_and_in_the_dtypes_of_the_plan(layers: Case, half: torch.dtype) -> None:
    subgraph, read, inputs = layers
    lowered = lower_precision(subgraph, half, ["handed"], ["y"])
    found = run(lowered, read, inputs)
    check_close(found, run(subgraph, read, inputs), half)
    assert {name: value.dtype for name, value in found.items()} == {
        "chosen": torch.float32,
        "y": half,
    }
    assert {name: tensor.dtype for name, tensor in lowered.inputs.items()} == {
        "x": torch.float32,
        "handed": half,
    }
    assert {n: t.dtype for n, t in lowered.outputs.items()} == {
        n: v.dtype for n, v in found.items()
    }
    check_casts(lowered)


def test_products_are_half_norms_and_their_weights_are_not(layers: Case) -> None:
    lowered = lower_precision(layers[0], torch.float16, [], [])
    by_target = {node.target: node for node in nodes(lowered)}
    conv, norm = by_target[aten.conv2d.default], by_target[aten.group_norm.default]
    attention = by_target[aten.scaled_dot_product_attention.default]
    assert {dtype_of(conv), dtype_of(attention)} == {torch.float16}
    assert {dtype_of(source) for source in norm.all_input_nodes} == {torch.float32}
    assert {dtype_of(source) for source in by_target[aten.mean.dim].all_input_nodes} == {
        torch.float32
    }
    assert lowered.weights.keys() == {
        "conv.weight:float16",
        "conv.bias:float16",
        "norm.weight",
        "norm.bias",
        "linear.weight:float16",
        "linear.bias:float16",
    }


def test_kept_nodes_compute_in_float32(layers: Case) -> None:
    kept = nodes_of_kinds(layers[0], ["attention", "convolution"])
    lowered = lower_precision(layers[0], torch.float16, [], [], kept)
    for node in nodes(lowered):
        if node.target in (aten.conv2d.default, aten.scaled_dot_product_attention.default):
            assert {dtype_of(source) for source in node.all_input_nodes} == {torch.float32}
        if node.target is aten.linear.default:
            assert dtype_of(node) is torch.float16
    assert "conv.weight" in lowered.weights
    assert "conv.weight:float16" not in lowered.weights


def test_with_all_nodes_kept_nothing_changes(layers: Case) -> None:
    subgraph, read, inputs = layers
    lowered = lower_precision(subgraph, torch.float16, [], [], all_nodes(subgraph))
    assert lowered.weights.keys() == subgraph.weights.keys()
    for name, value in run(lowered, read, inputs).items():
        torch.testing.assert_close(value, run(subgraph, read, inputs)[name], rtol=0, atol=0)


def test_what_does_nothing_is_gone(layers: Case) -> None:
    targets = {node.target for node in nodes(layers[0])}
    assert targets & {aten.dropout.default, aten.contiguous.default}, "there is something to lose"
    lowered = lower_precision(layers[0], torch.float16, [], [], all_nodes(layers[0]))
    left = {node.target for node in nodes(lowered)}
    assert not left & {aten.dropout.default, aten.alias.default, aten.contiguous.default}
    assert aten.to.dtype not in left


def test_integers_stay_integers(layers: Case) -> None:
    lowered = lower_precision(layers[0], torch.float16, [], [])
    whole = {node.target for node in nodes(lowered) if dtype_of(node) is torch.int64}
    assert whole == {n.target for n in nodes(layers[0]) if dtype_of(n) is torch.int64}
    assert aten.argmax.default in whole


@pytest.mark.parametrize("half", HALVES)
def test_the_network_of_a_model_gives_what_it_gives_in_float32(
    factory: StageFactory, half: torch.dtype
) -> None:
    model = factory.model
    source = factory.network(NetworkVariant("full", None, None, 64))
    values = hoisted(factory, call_inputs(model, 64))
    lowered = lower_precision(
        source.subgraph,
        half,
        [name for name in source.subgraph.inputs if source.ports[name].lowered],
        [name for name in source.subgraph.outputs if source.ports[name].lowered],
    )
    check_close(
        run(lowered, model.checkpoint.tensor, values), run_stage(model, source, values), half
    )
    check_casts(lowered)


OPERATIONS = {
    "linear": lambda m, x, y: m.linear(x),
    "norm": lambda m, x, y: m.norm(x),
    "softmax": lambda m, x, y: torch.softmax(x, dim=-1),
    "sum": lambda m, x, y: x / (1 + x.square().sum(dim=-1, keepdim=True)),
    "add": lambda m, x, y: x + y,
    "product": lambda m, x, y: torch.tanh(x @ y.mT / 8) @ x,
    "noop": lambda m, x, y: nn.functional.dropout(x, 0.5, training=m.training).float(),
    "split": lambda m, x, y: torch.cat(x.chunk(2, dim=-1)[::-1], dim=-1),
}


class Chain(nn.Module):
    """Operations one after the other; each is also given what the one before was."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        self.linear = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        before = self.linear(x)
        for name in self.names:
            x, before = OPERATIONS[name](self, x, before), x
        return (x + before,)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    names=st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=6),
    half_output=st.booleans(),
)
def test_any_chain_of_operations_comes_out_close(names: list[str], half_output: bool) -> None:
    torch.manual_seed(0)
    module, inputs = Chain(names).eval(), {"x": torch.randn(3, 8)}
    subgraph = subgraph_of(module, inputs, ["y"])
    lowered = lower_precision(subgraph, torch.float16, [], ["y"] if half_output else [])
    found = run(lowered, reader(module), inputs)
    assert found["y"].dtype is (torch.float16 if half_output else torch.float32)
    check_close(found, run(subgraph, reader(module), inputs), torch.float16)
    check_casts(lowered)
