"""Extract a subgraph: from chosen outputs backwards, until chosen inputs, weights or constants.

Slicing (stop at the cached tensor) and hoisting (stop at what another stage computes) are both
this one pass; only the chosen nodes differ. A cached tensor may also be a residual: what was added
on the way from one node to another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from .trace import Trace

aten = torch.ops.aten


@dataclass(frozen=True)
class Subgraph:
    """A static-shape piece of a trace, ready to become a stage.

    module      runs it: `module(*inputs, *weights)` gives a tuple in the order of `outputs`
    inputs      name → example (on the meta of the trace: dtype and shape are what count)
    outputs     likewise
    weights     likewise, by their paths in the model; with a suffix such as `:float16` where they
                are taken in another dtype than float32
    """

    module: fx.GraphModule
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]


@dataclass(frozen=True)
class Residual:
    """What is added between two nodes of a trace, which have the same shape.

    As an output it is their difference; as an input it makes `end` of `begin`.
    """

    end: fx.Node
    begin: fx.Node


Place = fx.Node | Residual
Places = Mapping[fx.Node, str] | Mapping[Place, str]


def extract(trace: Trace, inputs: Places, outputs: Places) -> Subgraph:
    """The part of `trace` between `inputs` and `outputs` (place → name).

    Only those of `inputs` that are needed are kept. An input of the trace that is needed must be
    among `inputs`.
    """
    named: dict[Place, str] = dict(inputs.items())
    at = {_end(place): place for place in named}
    needed = _between(outputs, at)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    used = {node: named[place] for node, place in at.items() if node in needed}
    for node, name in used.items():
        copies[node] = graph.placeholder(_identifier(name))
        copies[node].meta.update(node.meta)
    weights = [node for node in trace.weights if node in needed]
    for node in weights:
        copies[node] = graph.placeholder(node.name)
        copies[node].meta.update(node.meta)
    root = nn.Module()
    for node in trace.graph.nodes:
        if node in needed and isinstance(place := at.get(node), Residual):
            change, begin = copies[node], copies[place.begin]
            copies[node] = _like(graph.call_function(aten.add.Tensor, (begin, change)), node)
        if node not in needed or node in copies:
            continue
        if node in trace.constants:
            root.register_buffer(node.name, trace.constants[node])
            copies[node] = graph.get_attr(node.name)
            copies[node].meta.update(node.meta)
        else:
            assert node.op != "placeholder", f"input {node.name} is needed but not provided"
            copies[node] = graph.node_copy(node, lambda n: copies[n])

    def returned(place: Place) -> fx.Node:
        if isinstance(place, fx.Node):
            return copies[place]
        ends = (copies[place.end], copies[place.begin])
        return _like(graph.call_function(aten.sub.Tensor, ends), place.end)

    graph.output(tuple(returned(place) for place in outputs))
    return Subgraph(
        module=fx.GraphModule(root, graph),
        inputs={name: node.meta["val"] for node, name in used.items()},
        outputs={name: _end(place).meta["val"] for place, name in outputs.items()},
        weights={trace.weights[node]: node.meta["val"] for node in weights},
    )


def _between(outputs: Iterable[Place], inputs: Mapping[fx.Node, Place]) -> set[fx.Node]:
    """Every node on a way back from `outputs`, none beyond `inputs`."""
    needed: set[fx.Node] = set()
    todo = [node for place in outputs for node in _nodes(place)]
    while todo:
        node = todo.pop()
        if node not in needed:
            needed.add(node)
            place = inputs.get(node)
            if isinstance(place, Residual):
                todo.append(place.begin)
            elif place is None:
                todo.extend(node.all_input_nodes)
    return needed


def _end(place: Place) -> fx.Node:
    """The node whose value a place gives, or is made with."""
    return place.end if isinstance(place, Residual) else place


def _nodes(place: Place) -> tuple[fx.Node, ...]:
    return (place.end, place.begin) if isinstance(place, Residual) else (place,)


def _like(new: fx.Node, node: fx.Node) -> fx.Node:
    """A new node with what is known of another one."""
    new.meta.update(node.meta)
    return new


def _identifier(name: str) -> str:
    return "in_" + "".join(c if c.isalnum() else "_" for c in name)
