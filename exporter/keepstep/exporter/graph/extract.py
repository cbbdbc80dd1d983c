"""Extract a subgraph: from chosen outputs backwards, until chosen inputs, weights or constants.

Slicing (stop at the cached tensor) and hoisting (stop at what another stage computes) are both
this one pass; only the chosen nodes differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, fx, nn

from .trace import Trace


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


def extract(
    trace: Trace, inputs: Mapping[fx.Node, str], outputs: Mapping[fx.Node, str]
) -> Subgraph:
    """The part of `trace` between `inputs` and `outputs` (node → name).

    Only those of `inputs` that are needed are kept. An input of the trace that is needed must be
    among `inputs`.
    """
    needed = _between(outputs, inputs)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    used = {node: name for node, name in inputs.items() if node in needed}
    for node, name in used.items():
        copies[node] = graph.placeholder(_identifier(name))
        copies[node].meta.update(node.meta)
    weights = [node for node in trace.weights if node in needed]
    for node in weights:
        copies[node] = graph.placeholder(node.name)
        copies[node].meta.update(node.meta)
    root = nn.Module()
    for node in trace.graph.nodes:
        if node not in needed or node in copies:
            continue
        if node in trace.constants:
            root.register_buffer(node.name, trace.constants[node])
            copies[node] = graph.get_attr(node.name)
            copies[node].meta.update(node.meta)
        else:
            assert node.op != "placeholder", f"input {node.name} is needed but not provided"
            copies[node] = graph.node_copy(node, lambda n: copies[n])
    graph.output(tuple(copies[node] for node in outputs))
    return Subgraph(
        module=fx.GraphModule(root, graph),
        inputs={name: node.meta["val"] for node, name in used.items()},
        outputs={name: node.meta["val"] for node, name in outputs.items()},
        weights={trace.weights[node]: node.meta["val"] for node in weights},
    )


def _between(outputs: Mapping[fx.Node, str], inputs: Mapping[fx.Node, str]) -> set[fx.Node]:
    """Every node on a way back from `outputs`, none beyond `inputs`."""
    needed: set[fx.Node] = set()
    todo = list(outputs)
    while todo:
        node = todo.pop()
        if node not in needed:
            needed.add(node)
            if node not in inputs:
                todo.extend(node.all_input_nodes)
    return needed


def _identifier(name: str) -> str:
    return "in_" + "".join(c if c.isalnum() else "_" for c in name)
