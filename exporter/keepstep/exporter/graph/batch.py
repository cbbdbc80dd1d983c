"""Batching: a subgraph that runs once a call becomes one that runs once for all calls."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from .extract import Subgraph


def batched(subgraph: Subgraph, calls: int, by_call: Collection[str]) -> Subgraph:
    """`subgraph` for several calls at once.

    by_call   the inputs that differ from call to call; they get a block of rows for each, one
              after the other, and so do all outputs
    """
    names = [*subgraph.inputs]
    over = [0 if name in by_call else None for name in names] + [None] * len(subgraph.weights)

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        blocks = [
            x if axis is None else x.reshape(calls, -1, *x.shape[1:])
            for x, axis in zip(given, over, strict=True)
        ]
        made = torch.vmap(subgraph.module, in_dims=tuple(over))(*blocks)
        return tuple(x.flatten(0, 1) for x in made)

    mode: FakeTensorMode = next(iter(subgraph.inputs.values())).fake_mode  # type: ignore[attr-defined]
    with mode, torch.no_grad():
        inputs = {
            name: torch.empty(calls * x.shape[0], *x.shape[1:], dtype=x.dtype)
            if name in by_call
            else x
            for name, x in subgraph.inputs.items()
        }
        module = make_fx(run)(*inputs.values(), *subgraph.weights.values())
    (returned,) = module.graph.output_node().args
    assert isinstance(returned, (tuple, list))
    outputs = {
        name: node.meta["val"] for name, node in zip(subgraph.outputs, returned, strict=True)
    }
    return Subgraph(_plain(module, mode), inputs, outputs, subgraph.weights)


def _plain(module: fx.GraphModule, mode: FakeTensorMode) -> fx.GraphModule:
    """The module with what its code made itself as buffers, as in every subgraph."""
    root = nn.Module()
    for node in module.graph.find_nodes(op="get_attr"):
        made = getattr(module, str(node.target))
        root.register_buffer(str(node.target), made)
        node.meta["val"] = mode.from_tensor(made)
    return fx.GraphModule(root, module.graph)
