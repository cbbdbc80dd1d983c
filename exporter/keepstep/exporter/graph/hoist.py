"""Hoisting: what depends on the prompt alone, or on the timestep alone, leaves the loop."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import fx

from .dependencies import Inputs
from .trace import Trace


def frontier(
    trace: Trace, depends_on: Mapping[fx.Node, Inputs], inputs: Collection[str], prefix: str
) -> dict[fx.Node, str]:
    """The values that enter the loop from the part of the trace that depends on `inputs` alone.

    Node → a name made of `prefix` and the path of the weight that it comes from, so that the
    same value has the same name in every trace of a model.
    """
    hoisted = {node for node, c in depends_on.items() if c and c <= frozenset(inputs)}
    named: dict[fx.Node, str] = {}
    for node in trace.graph.nodes:  # in order, so that names are stable
        if node in hoisted and any(user not in hoisted for user in node.users):
            name = f"{prefix}.{_origin(trace, node)}"
            taken = sum(other == name or other.startswith(f"{name}:") for other in named.values())
            named[node] = f"{name}:{taken}" if taken else name
    return named


def _origin(trace: Trace, node: fx.Node) -> str:
    """The path of the nearest module with weights before `node`, or the node's own name."""
    seen, todo = {node}, [node]
    while todo:
        current = todo.pop(0)
        for source in current.all_input_nodes:
            if source in trace.weights:
                return trace.weights[source].rpartition(".")[0]
            if source not in seen:
                seen.add(source)
                todo.append(source)
    return node.name
