"""Count multiply–accumulate operations: what convolutions, linear layers and products do."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import fx

from .extract import Subgraph

aten = torch.ops.aten


def count_macs(subgraph: Subgraph) -> int:
    """MACs of one launch. Elementwise work, norms, softmax and gathers count as nothing."""
    total = 0
    for node in subgraph.module.graph.nodes:
        if node.op == "call_function" and (rule := _RULES.get(node.target)):
            total += rule(node)
    return total


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(int(axis) for axis in node.meta["val"].shape)


def _convolution(node: fx.Node) -> int:
    # Every output element sums over the weight's (in channels / groups) × kernel.
    return prod(_shape(node)) * prod(_shape(node.args[1])[1:])


def _linear(node: fx.Node) -> int:
    return prod(_shape(node)) * _shape(node.args[1])[1]


def _matmul(node: fx.Node) -> int:
    return prod(_shape(node)) * _shape(node.args[0])[-1]


def _addmm(node: fx.Node) -> int:
    return prod(_shape(node)) * _shape(node.args[1])[-1]


def _attention(node: fx.Node) -> int:
    query, key, value = (_shape(node.args[i]) for i in range(3))
    scores = prod(query[:-1]) * key[-2]
    return scores * query[-1] + scores * value[-1]


_RULES: dict[object, Callable[[fx.Node], int]] = {
    aten.conv1d.default: _convolution,
    aten.conv2d.default: _convolution,
    aten.convolution.default: _convolution,
    aten.linear.default: _linear,
    aten.matmul.default: _matmul,
    aten.mm.default: _matmul,
    aten.bmm.default: _matmul,
    aten.addmm.default: _addmm,
    aten.scaled_dot_product_attention.default: _attention,
}
