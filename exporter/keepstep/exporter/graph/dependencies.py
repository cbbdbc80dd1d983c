"""Which inputs every node of a trace depends on."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from .trace import Trace

Inputs = frozenset[str]


def dependencies(trace: Trace) -> Mapping[fx.Node, Inputs]:
    """Node → names of the trace's inputs that it depends on; weights and constants have none."""
    own = {node: name for name, node in trace.inputs.items()}
    depends_on: dict[fx.Node, Inputs] = {}
    for node in trace.graph.nodes:
        if node.op == "placeholder":
            depends_on[node] = frozenset([own[node]] if node in own else [])
        else:
            depends_on[node] = frozenset().union(*(depends_on[a] for a in node.all_input_nodes))
    return depends_on
