"""Traces a torch module into a graph whose inputs are its arguments and its weights alike."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.export.graph_signature import InputKind

from .plain import write_plainly
from .weight_parts import take_parts


@dataclass(frozen=True)
class Trace:
    """A traced network, in float32 wherever it computes with floats.

    graph       aten operations; every placeholder is an input, a weight or a constant
    inputs      argument name → its placeholder
    weights     placeholder → the weight's path in the model, such as `unet.conv_in.weight`, and
                which part of it is taken if not all of it is (weight_layout.py)
    constants   placeholder → a tensor the code made itself, such as a range of positions
    outputs     the nodes that are returned
    """

    graph: fx.Graph
    inputs: Mapping[str, fx.Node]
    weights: Mapping[fx.Node, str]
    constants: Mapping[fx.Node, Tensor]
    outputs: tuple[fx.Node, ...]


def trace(module: nn.Module, inputs: Mapping[str, Tensor]) -> Trace:
    """Trace `module(**inputs)` with static shapes; the names become the trace's inputs.

    The weights may be fake: their shapes are all that is looked at.
    """
    mode = next((p.fake_mode for p in module.parameters() if isinstance(p, FakeTensor)), None)
    given = {name: mode.from_tensor(t) if mode else t for name, t in inputs.items()}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pytree internals of torch.export itself
        program = torch.export.export(module.eval(), (), given, strict=False)
    write_plainly(program.graph)
    nodes = {node.name: node for node in program.graph.nodes}
    user: list[fx.Node] = []
    weights: dict[fx.Node, str] = {}
    constants: dict[fx.Node, Tensor] = {}
    for spec in program.graph_signature.input_specs:
        node = nodes[spec.arg.name]
        if spec.kind is InputKind.USER_INPUT:
            user.append(node)
            continue
        assert spec.target is not None
        held = (program.state_dict | program.constants)[spec.target]
        stored = spec.kind is InputKind.PARAMETER or spec.persistent  # in checkpoints
        if stored and held.is_floating_point():
            weights[node] = spec.target
        else:
            constants[node] = held
    # Names, not positions: torch orders keyword arguments as it likes.
    assert {node.name for node in user} == set(inputs), "an argument was lost while tracing"
    (result,) = program.graph.output_node().args
    assert isinstance(result, (tuple, list))
    return Trace(
        graph=program.graph,
        inputs={name: nodes[name] for name in inputs},
        weights=take_parts(program.graph, weights),
        constants=constants,
        outputs=tuple(result),
    )
