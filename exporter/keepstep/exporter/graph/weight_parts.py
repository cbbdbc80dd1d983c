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
    return dict(_part(graph, weight, whole) for weight, whole in weights.items())


def _part(graph: fx.Graph, weight: fx.Node, name: str) -> tuple[fx.Node, str]:
    """The weight itself, or what is made of it by slices and reshapes alone."""
    chain = [weight]
    while len(chain[-1].users) == 1 and _changes_a_weight(user := next(iter(chain[-1].users))):
        chain.append(user)
    if not any(node.target is aten.slice.Tensor for node in chain):
        return weight, name
    changes = "".join(_change(node) for node in chain[1:])
    end = chain[-1]
    with graph.inserting_before(weight):
        part = graph.placeholder(f"{weight.name}_part")
    part.meta["val"] = end.meta["val"]
    end.replace_all_uses_with(part)
    return part, f"{name}:{changes.removesuffix(':')}"


def _changes_a_weight(node: fx.Node) -> bool:
    """Whether a node is one of the changes that the name of a part can say."""
    step: object = node.args[4] if len(node.args) > 4 else 1
    return node.target in _VIEWS or (node.target is aten.slice.Tensor and step == 1)


def _change(node: fx.Node) -> str:
    """What a slice or a reshape does, as part of a weight's name."""
    if node.target is aten.slice.Tensor:
        return _slice(node)
    return "".join(["reshape", *(f"-{n}" for n in node.meta["val"].shape), ":"])


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
