"""The node at which full and shallow calls part, found by its module's path."""

from __future__ import annotations

from torch import fx

from .trace import Trace


def cut_node(trace: Trace, path: str) -> fx.Node:
    """The output of the module at `path`: the last node that was traced inside of it."""
    inside: list[fx.Node] = [node for node in trace.graph.nodes if _inside(node, path)]
    assert inside, f"no node was traced inside of {path}"
    return inside[-1]


def _inside(node: fx.Node, path: str) -> bool:
    stack = node.meta.get("nn_module_stack") or {}
    return any(place == path for place, _ in stack.values())
