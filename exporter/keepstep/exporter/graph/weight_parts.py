"""Weights of which a part is taken: cut out when they are stored, not in every call.

The positions that a transformer was trained with lie on a grid that is larger than any picture:
192 × 192 of them are 227 MB, of which a picture of 1024 × 1024 pixels takes a ninth.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx

aten = torch.ops.aten
_VIEWS = (aten.reshape.default, aten.view.default)


def take_parts(graph: fx.Graph, weights: Mapping[fx.Node, str]) -> dict[fx.Node, str]:
    """`weights` (placeholder → name), where those that are sliced are replaced by their slices.

    The name of a part says how it is made from the whole (weight_layout.py).
    """
    return {
        placeholder: name
        for weight, whole in weights.items()
        for placeholder, name in [_part(graph, weight, whole)]
    }


def _part(graph: fx.Graph, weight: fx.Node, name: str) -> tuple[fx.Node, str]:
    """The weight itself, or what is made of it by slices and reshapes alone."""
    node, changes, end = weight, "", weight
    while len(node.users) == 1:
        (node,) = node.users
        if node.target in _VIEWS:
            changes += "".join(["reshape", *(f"-{n}" for n in node.meta["val"].shape), ":"])
        elif node.target is aten.slice.Tensor and _step(node) == 1:
            changes += _slice(node)
            end, taken = node, changes
        else:
            break
        if node.target in _VIEWS and end is not weight:
            end, taken = node, changes
    if end is weight:
        return weight, name
    with graph.inserting_before(weight):
        part = graph.placeholder(f"{weight.name}_part")
    part.meta["val"] = end.meta["val"]
    end.replace_all_uses_with(part)
    return part, f"{name}:{taken.removesuffix(':')}"


def _step(node: fx.Node) -> object:
    return node.args[4] if len(node.args) > 4 else 1


def _slice(node: fx.Node) -> str:
    """What a slice does, as part of a weight's name; nothing where it takes all."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    axis = int(node.args[1]) if len(node.args) > 1 else 0  # type: ignore[arg-type]
    size = int(source.meta["val"].shape[axis])
    begin = int(node.args[2] or 0) if len(node.args) > 2 else 0  # type: ignore[arg-type]
    length = int(node.meta["val"].shape[axis])
    begin = begin + size if begin < 0 else begin
    return "" if length == size else f"slice-{axis % source.meta['val'].dim()}-{begin}-{length}:"
