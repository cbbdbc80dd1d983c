"""Lower a float32 subgraph to half precision where that is safe, as automatic mixed precision does.

What multiplies large matrices runs in half: convolutions, linear layers, attention. Norms are
computed in float32 and hand their results over in half; sums, means and exponentials stay in
float32. So do the sampler's sum, guidance and the token scores, which depend on no weight, and
everything between the last product and an output that the plan keeps in float32 (the predictions,
the picture). What the rest does follows from what it is given.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.node import map_arg

from .extract import Subgraph
from .weight_layout import in_dtype

aten = torch.ops.aten

PRODUCTS = {
    aten.conv1d.default,
    aten.conv2d.default,
    aten.linear.default,
    aten.matmul.default,
    aten.mm.default,
    aten.bmm.default,
    aten.addmm.default,
    aten.baddbmm.default,
    aten.scaled_dot_product_attention.default,
    aten.embedding.default,
}
# Their results are of the order of one, so they are handed over in half.
NORMS = {aten.group_norm.default, aten.layer_norm.default, aten.softmax.int}
# Their results are not, and what follows may divide by them.
SUMS = {
    aten.exp.default,
    aten.log.default,
    aten.pow.Tensor_Scalar,
    aten.rsqrt.default,
    aten.sqrt.default,
    aten.sum.dim_IntList,
    aten.mean.dim,
    aten.var.correction,
    aten.cumsum.default,
    aten.linalg_vector_norm.default,
}

# Kinds of products that a user may ask to keep in float32.
KINDS = {
    "attention": {aten.scaled_dot_product_attention.default},
    "linear": {aten.linear.default, aten.addmm.default, aten.mm.default},
    "convolution": {aten.conv1d.default, aten.conv2d.default},
}


def nodes_of_kinds(subgraph: Subgraph, kinds: Collection[str]) -> set[str]:
    """Names of the nodes that are products of these kinds."""
    targets = {target for kind in kinds for target in KINDS.get(kind, ())}
    return {node.name for node in subgraph.module.graph.nodes if node.target in targets}


def nodes_of_weights(subgraph: Subgraph, endings: tuple[str, ...]) -> set[str]:
    """Names of the nodes that take weights whose paths have one of these endings."""
    places = list(subgraph.module.graph.find_nodes(op="placeholder"))[len(subgraph.inputs) :]
    weights = zip(subgraph.weights, places, strict=True)
    return {u.name for path, place in weights if path.endswith(endings) for u in place.users}


def all_nodes(subgraph: Subgraph) -> set[str]:
    """Names of all nodes that compute."""
    return {node.name for node in subgraph.module.graph.nodes if node.op == "call_function"}


@dataclass(frozen=True)
class _Precision:
    """In which dtype a node takes its floats, and in which it gives its own."""

    takes: torch.dtype
    gives: torch.dtype


def lower_precision(
    subgraph: Subgraph,
    dtype: torch.dtype,
    half_inputs: Collection[str],
    half_outputs: Collection[str],
    kept: Collection[str] = (),
) -> Subgraph:
    """`subgraph` with its weights and products in `dtype` (float16 or bfloat16).

    half_inputs, half_outputs   those that the plan holds in `dtype`; other floats are float32
    kept                        names of nodes that stay in float32, for their range or precision
    """
    precisions = _assign(subgraph, dtype, set(half_inputs), set(half_outputs), set(kept))
    return _rewrite(subgraph, dtype, precisions, set(half_outputs))


def _assign(
    subgraph: Subgraph,
    dtype: torch.dtype,
    half_inputs: set[str],
    half_outputs: set[str],
    kept: set[str],
) -> dict[fx.Node, _Precision]:
    """The precision of every node that takes or gives floats, but of weights and constants."""
    graph = subgraph.module.graph
    places = list(graph.find_nodes(op="placeholder"))
    inputs = dict(zip(places, subgraph.inputs, strict=False))
    tail = _float32_tail(subgraph, half_outputs)
    learnt = set(places[len(inputs) :])  # what depends on a weight
    precisions: dict[fx.Node, _Precision] = {}
    for node in graph.nodes:
        if node in inputs:
            own = dtype if inputs[node] in half_inputs else torch.float32
            precisions[node] = _Precision(own, own)
            if inputs[node] in half_inputs:
                learnt.add(node)  # another stage made it from weights
        if node.op != "call_function":
            continue
        sources = node.all_input_nodes
        if any(source in learnt for source in sources):
            learnt.add(node)
        # Weights come in whatever is asked for; an index has no say in the matter.
        given = [precisions[s] for s in sources if s in precisions and _gives_floats(s)]
        floats = torch.float32 if torch.float32 in [p.gives for p in given] else dtype
        if node.target is operator.getitem:
            precisions[node] = precisions[sources[0]]
        elif node.name in kept or node not in learnt:
            precisions[node] = _Precision(torch.float32, torch.float32)
        elif node.target in PRODUCTS:
            precisions[node] = _Precision(dtype, dtype)
        elif node in tail or node.target in SUMS:
            precisions[node] = _Precision(torch.float32, torch.float32)
        elif node.target in NORMS:
            precisions[node] = _Precision(torch.float32, dtype)
        else:
            precisions[node] = _Precision(floats, floats)
    return precisions


def _float32_tail(subgraph: Subgraph, half_outputs: set[str]) -> set[fx.Node]:
    """Nodes that lead to float32 outputs alone, without another product in between."""
    graph = subgraph.module.graph
    returned = dict(zip(_returned(graph), subgraph.outputs, strict=True))
    tail: set[fx.Node] = set()
    for node in reversed(list(graph.nodes)):
        if node.op != "call_function" or returned.get(node) in half_outputs:
            continue
        users = [user for user in node.users if user.op != "output"]
        if all(user in tail and user.target not in PRODUCTS for user in users):
            tail.add(node)
    return tail


def _rewrite(
    subgraph: Subgraph,
    dtype: torch.dtype,
    precisions: Mapping[fx.Node, _Precision],
    half_outputs: set[str],
) -> Subgraph:
    """The subgraph with casts where the precisions of neighbours differ."""
    old = subgraph.module.graph
    new = _Typed(fx.Graph(), next(iter(subgraph.inputs.values())).fake_mode)  # type: ignore[attr-defined]
    places = list(old.find_nodes(op="placeholder"))
    inputs: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for name, node in zip(subgraph.inputs, places, strict=False):
        inputs[name] = new.placeholder(node, precisions[node].gives)
    for path, node in zip(subgraph.weights, places[len(inputs) :], strict=True):
        for own in dict.fromkeys(precisions[user].takes for user in node.users):
            weights[in_dtype(path, own)] = new.placeholder(node, own)
    for node in old.nodes:
        if node.op == "get_attr":
            new.constant(node)
        elif node.op == "call_function":
            new.call(node, precisions[node].takes)
    returned = [
        new.get(node, dtype if name in half_outputs else torch.float32)
        for node, name in zip(_returned(old), subgraph.outputs, strict=True)
    ]
    new.graph.output(tuple(returned))
    new.graph.eliminate_dead_code()
    module = fx.GraphModule(subgraph.module, new.graph)
    outputs = {n: r.meta["val"] for n, r in zip(subgraph.outputs, returned, strict=True)}
    return Subgraph(module, inputs, outputs, weights)


class _Typed:
    """A graph that is being written, with the versions of each old node that it has so far."""

    def __init__(self, graph: fx.Graph, mode: FakeTensorMode) -> None:
        self.graph = graph
        self._mode = mode
        self._versions: dict[fx.Node, dict[torch.dtype | None, fx.Node]] = {}

    def placeholder(self, node: fx.Node, dtype: torch.dtype) -> Tensor:
        """An input or weight in `dtype`, if it is a float at all; gives its example."""
        value: Tensor = node.meta["val"]
        if value.dtype.is_floating_point and value.dtype is not dtype:
            with self._mode:
                value = torch.empty(value.shape, dtype=dtype)
        copy = self.graph.placeholder(f"{node.name}_{str(value.dtype).removeprefix('torch.')}")
        self._add(node, copy, value)
        return value

    def constant(self, node: fx.Node) -> None:
        """A tensor that the code made itself."""
        self._add(node, self.graph.get_attr(str(node.target)), node.meta["val"])

    def call(self, node: fx.Node, takes: torch.dtype) -> None:
        """The node, with its floats taken as `takes`."""
        if _is_nothing(node):
            self._versions[node] = self._versions[node.all_input_nodes[0]]
            return
        args, kwargs = map_arg((node.args, dict(node.kwargs)), lambda n: self.get(n, takes))
        copy = self.graph.call_function(node.target, args, kwargs)  # type: ignore[arg-type]
        self._add(node, copy, self._example(copy))

    def get(self, node: fx.Node, dtype: torch.dtype) -> fx.Node:
        """The old node in `dtype`, cast where it is not there yet; as it is if it has no floats."""
        versions = self._versions[node]
        if None in versions:
            return versions[None]
        if dtype not in versions:
            source = next(iter(versions.values()))
            versions[dtype] = self.graph.call_function(aten.to.dtype, (source, dtype))
            versions[dtype].meta["val"] = self._example(versions[dtype])
        return versions[dtype]

    def _add(self, node: fx.Node, copy: fx.Node, value: Any) -> None:
        copy.meta["val"] = value
        own = value.dtype if _gives_floats(copy) and isinstance(value, Tensor) else None
        self._versions.setdefault(node, {})[own] = copy

    def _example(self, node: fx.Node) -> Any:
        """What the node gives for its neighbours' examples: dtype and shape, found by torch."""
        args, kwargs = map_arg((node.args, dict(node.kwargs)), lambda n: n.meta["val"])
        with self._mode, torch.no_grad():
            return node.target(*args, **kwargs)  # type: ignore[operator]


def _returned(graph: fx.Graph) -> tuple[fx.Node, ...]:
    """The nodes of a graph's outputs, in order."""
    (nodes,) = graph.output_node().args
    return cast(tuple[fx.Node, ...], nodes)


def _gives_floats(node: fx.Node) -> bool:
    value = node.meta["val"]
    first = value[0] if isinstance(value, (tuple, list)) else value
    return bool(first.dtype.is_floating_point)


def _is_nothing(node: fx.Node) -> bool:
    """Whether the node hands on what it is given: when sampling, dropout is one of these."""
    if node.target in (aten.dropout.default, aten.alias.default, aten.contiguous.default):
        return True
    casts = node.target is aten.to.dtype and _gives_floats(node)
    return casts and _gives_floats(node.all_input_nodes[0])
