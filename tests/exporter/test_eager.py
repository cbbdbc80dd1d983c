"""The interpreter of calibrations: what it gives, what it reads, and how large numbers grow."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from keepstep.exporter.check.calibration import HEADROOM, out_of_range
from keepstep.exporter.check.eager import Eager
from keepstep.exporter.graph.extract import Subgraph, extract
from keepstep.exporter.graph.trace import trace
from keepstep.exporter.methods.port import Port
from keepstep.exporter.stages.spec import StageSpec, TracedStage

LARGEST = 65504.0  # of float16


class Layers(nn.Module):
    """Two products; the second takes what the first gave, brought back by a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.norm = nn.LayerNorm(8)
        self.second = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        y = self.second(self.norm(self.first(x)))[None]
        return (nn.functional.scaled_dot_product_attention(y, y, y),)


@pytest.fixture
def module() -> Layers:
    torch.manual_seed(0)
    return Layers().eval().requires_grad_(False)


def subgraph_of(module: nn.Module, x: Tensor) -> Subgraph:
    traced = trace(module, {"x": x})
    return extract(traced, {traced.inputs["x"]: "x"}, {traced.outputs[0]: "y"})


def test_it_gives_what_the_module_gives_and_reads_each_weight_when_it_is_taken(
    module: Layers,
) -> None:
    x, read = torch.randn(3, 4), []

    def reading(name: str) -> Tensor:
        read.append(name)
        return module.get_parameter(name)

    eager = Eager(subgraph_of(module, x), reading)
    assert read == []
    torch.testing.assert_close(eager.give({"x": x})["y"], module(x)[0])
    parts = [name.partition(".")[0] for name in read]
    assert parts == ["first", "first", "norm", "norm", "second", "second"]


def test_ranges_are_the_largest_magnitudes_of_all_runs(module: Layers) -> None:
    one, other = torch.randn(3, 4), 5 * torch.randn(3, 4)
    eager = Eager(subgraph_of(module, one), module.get_parameter)
    for x in (one, other, one):
        eager.give({"x": x})
    expected = max(float(module.first(x).abs().max()) for x in (one, other))
    assert eager.ranges["linear"] == pytest.approx(expected)


def test_the_range_of_an_attention_covers_its_scores(module: Layers) -> None:
    module.second.weight *= 100
    x = torch.randn(3, 4)
    y = module.second(module.norm(module.first(x)))
    eager = Eager(subgraph_of(module, x), module.get_parameter)
    eager.give({"x": x})
    scores = (y @ y.mT / 8**0.5).abs().max()
    assert eager.ranges["scaled_dot_product_attention"] >= scores > y.abs().max()


def test_what_is_out_of_range_is_what_overflows_and_the_products_that_take_it() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> tuple[Tensor]:
            return (self.linear(torch.relu(x)) + 1,)

    subgraph = subgraph_of(Two(), torch.randn(2, 4))
    ports = {name: Port(name) for name in (*subgraph.inputs, *subgraph.outputs)}
    stage = StageSpec("two", {}, lambda: TracedStage(subgraph, ports))
    near = LARGEST / HEADROOM
    assert out_of_range(stage, {"relu": near, "linear": 1.0}, torch.float16) == set()
    for large in (near * 1.01, float("inf"), float("nan")):
        ranges = {"relu": large, "linear": 1.0, "add": 1.0}
        assert out_of_range(stage, ranges, torch.float16) == {"relu", "linear"}
    assert out_of_range(stage, {"relu": near * 1.01}, torch.bfloat16) == set()
