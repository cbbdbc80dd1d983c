"""Counted multiply–accumulates against torch's own counter of operations, two for each."""

from __future__ import annotations

import pytest
import torch
from exporter.played import call_inputs, schedule, variants_of
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from keepstep.exporter.graph.extract import extract
from keepstep.exporter.graph.macs import count_macs
from keepstep.exporter.graph.trace import trace
from keepstep.exporter.models import Model
from keepstep.exporter.stages.factory import StageFactory
from keepstep.exporter.stages.networks import NetworkCall


class Convolutions(nn.Module):
    """Stride, padding, groups, one and two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(4, 6, 3, padding=1)
        self.strided = nn.Conv2d(6, 8, (3, 1), stride=2)
        self.grouped = nn.Conv2d(8, 8, 3, groups=4, bias=False)
        self.line = nn.Conv1d(8, 5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(self.grouped(self.strided(self.plain(x))).flatten(2))


class Products(nn.Module):
    """Linear layers with and without bias, and every kind of matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 10)
        self.outer = nn.Linear(10, 6, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.silu(self.outer(self.inner(x)))
        y = torch.bmm(y, y.transpose(1, 2)) @ y
        return torch.addmm(y[0], y[0] @ y[0].T, y[1]) + torch.mm(y[0], y[1].T) @ y[0]


class Attention(nn.Module):
    """Keys and values of another length than the queries, values of another width."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(x, x[:, :, :3], x[:, :, :3, :4])


def torch_macs(module: nn.Module, **inputs: torch.Tensor) -> int:
    counter = FlopCounterMode(display=False)
    # Torch does not count its flash attention for the CPU; plain products it does.
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        module(**inputs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("module", "shape"),
    [(Convolutions(), (2, 4, 12, 10)), (Products(), (2, 5, 6)), (Attention(), (2, 3, 7, 8))],
    ids=["convolutions", "products", "attention"],
)
def test_macs_are_half_of_the_operations_that_torch_counts(
    module: nn.Module, shape: tuple[int, ...]
) -> None:
    x = torch.randn(shape)
    traced = trace(module, {"x": x})
    subgraph = extract(traced, {traced.inputs["x"]: "x"}, {traced.outputs[0]: "y"})
    assert count_macs(subgraph) == torch_macs(module, x=x) > 0


def test_a_convolution_is_counted_as_on_paper() -> None:
    """8 × 6 outputs of 6 channels, each of 4 channels × 3 × 3; the bias is no product."""
    module = nn.Conv2d(4, 6, 3, padding=1)
    traced = trace(module, {"input": torch.randn(1, 4, 8, 6)})
    subgraph = extract(traced, {traced.inputs["input"]: "x"}, {traced.outputs[0]: "y"})
    assert count_macs(subgraph) == 8 * 6 * 6 * 4 * 9


def test_all_parts_of_a_network_call_together_have_the_macs_that_torch_counts(
    model: Model, factory: StageFactory
) -> None:
    (variant,) = variants_of(factory, schedule("F"))
    inputs = call_inputs(model, variant.window)
    taken = {k: v for k, v in inputs.items() if k not in ("score_weights", "selection_noise")}
    network = count_macs(factory.network(variant).subgraph)
    prompt = count_macs(factory.prompt().subgraph)
    rest = torch_macs(NetworkCall(model.denoiser), **taken) - network - prompt
    # What is left was hoisted into tables: linear layers of the timestep, one row each.
    modules = model.denoiser.module.named_modules()
    linear = [m for name, m in modules if "time_emb" in name and hasattr(m, "weight")]
    per_row = sum(m.weight.numel() for m in linear)
    assert rest == per_row == count_macs(factory.time().subgraph)
