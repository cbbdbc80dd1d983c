"""Colour every node of a trace by the inputs that it depends on."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from .trace import Trace

Colour = frozenset[str]


def colour(trace: Trace) -> Mapping[fx.Node, Colour]:
    """Node → names of the trace's inputs that it depends on; weights and constants have none."""
    own = {node: name for name, node in trace.inputs.items()}
    colours: dict[fx.Node, Colour] = {}
    for node in trace.graph.nodes:
        if node.op == "placeholder":
            colours[node] = frozenset([own[node]] if node in own else [])
        else:
            colours[node] = frozenset().union(*(colours[a] for a in node.all_input_nodes))
    return colours
