"""Runs a float32 subgraph in PyTorch, one weight in memory at a time, and notes how large its
numbers grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_aggregate

from ..graph.extract import Subgraph
from ..stages.weights import make_weight

aten = torch.ops.aten


@dataclass(frozen=True)
class _Unread:
    """A weight that is read when an operation takes it."""

    name: str


class Eager(fx.Interpreter):
    """An interpreter of one subgraph.

    `ranges` maps each node to the largest magnitude that it gave, in all runs so far; for an
    attention, at least what its scores can reach before the softmax.
    """

    def __init__(self, subgraph: Subgraph, read: Callable[[str], Tensor]) -> None:
        super().__init__(subgraph.module)
        self._subgraph = subgraph
        self._read = read
        self.ranges: dict[str, float] = {}

    @torch.no_grad()
    def give(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name."""
        given = [inputs[name] for name in self._subgraph.inputs]
        outputs = self.run(*given, *(_Unread(name) for name in self._subgraph.weights))
        return dict(zip(self._subgraph.outputs, outputs, strict=True))

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[Any, Any]:
        """The arguments of a node, its weights read now and dropped with them."""
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return map_aggregate((args, kwargs), self._read_weight)

    def run_node(self, n: fx.Node) -> Any:
        """The node's result, its magnitude noted."""
        result = super().run_node(n)
        if isinstance(result, Tensor) and result.is_floating_point():
            largest = float(result.abs().amax()) if result.numel() else 0.0
            if n.target is aten.scaled_dot_product_attention.default:
                largest = max(largest, self._scores_bound(n))
            self.ranges[n.name] = max(largest, self.ranges.get(n.name, 0.0))
        return result

    def _read_weight(self, argument: Any) -> Any:
        return make_weight(argument.name, self._read) if isinstance(argument, _Unread) else argument

    def _scores_bound(self, n: fx.Node) -> float:
        """|q · k| · scale ≤ |q| · |k| · scale (Cauchy and Schwarz)."""
        (query, key, *_), _ = super().fetch_args_kwargs_from_env(n)
        norms = query.norm(dim=-1).amax() * key.norm(dim=-1).amax()
        return float(norms / query.shape[-1] ** 0.5)
