"""A subgraph as an ONNX model whose weights are inputs, so that the model holds only code."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer
import torch
from onnx_ir.passes import common as common_passes
from torch import Tensor

from .passes.extract import Subgraph

OPSET = 20


@dataclass(frozen=True)
class OnnxStage:
    """An ONNX model and the weights that it takes as inputs.

    `weights` maps the model's input names (also the names in weights.safetensors) to arrays;
    names are paths in the checkpoint, with a suffix such as `:transpose-1-0` where a node that
    depended on the weight alone was folded into it.
    """

    model: ir.Model
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: Mapping[str, np.ndarray]


def onnx_from_subgraph(subgraph: Subgraph, tensors: Mapping[str, Tensor]) -> OnnxStage:
    """Convert, optimise, and fold what depends on weights alone."""
    weights = {path: tensors[path].detach() for path in subgraph.weights}
    examples = [torch.zeros(t.shape, dtype=t.dtype) for t in subgraph.inputs.values()]
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            subgraph.module.eval(),
            (*examples, *weights.values()),
            input_names=[*subgraph.inputs, *weights],
            output_names=[*subgraph.outputs],
            opset_version=OPSET,
            dynamo=True,
            # Optimised below instead, when weights are known to be inputs and can't be folded.
            optimize=False,
            verbose=False,
        )
        assert program is not None
        onnxscript.optimizer.optimize_ir(program.model)
    model = program.model
    common_passes.RemoveUnusedNodesPass()(model)
    arrays = _fold_weights(model, {path: tensor.numpy() for path, tensor in weights.items()})
    _strip(model)
    return OnnxStage(model, tuple(subgraph.inputs), tuple(subgraph.outputs), arrays)


def _fold_weights(model: ir.Model, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Replace layout changes of weights by weights in that layout; drop unused weight inputs."""
    by_name = {value.name: value for value in model.graph.inputs}
    for node in list(model.graph):
        source = node.inputs[0] if node.inputs else None
        if source is None or source.name not in weights or node.op_type not in _LAYOUTS:
            continue
        axes = _axes(node)
        if axes is None:
            continue
        suffix = "-".join([node.op_type.lower(), *(str(axis) for axis in axes)])
        name = f"{source.name}:{suffix}"
        if name not in weights:
            folded = np.ascontiguousarray(_LAYOUTS[node.op_type](weights[source.name], axes))
            weights[name] = folded
            by_name[name] = ir.Value(
                name=name, type=source.type, shape=ir.Shape(list(folded.shape))
            )
            model.graph.inputs.append(by_name[name])
        ir.convenience.replace_all_uses_with(node.outputs[0], by_name[name])
        model.graph.remove(node, safe=True)
    used = {v.name for n in model.graph for v in n.inputs if v is not None}
    for name in [name for name in weights if name not in used]:
        model.graph.inputs.remove(by_name[name])
        del weights[name]
    return weights


def _unsqueeze(array: np.ndarray, axes: list[int]) -> np.ndarray:
    rank = array.ndim + len(axes)
    return np.expand_dims(array, tuple(axis % rank for axis in axes))


_LAYOUTS: Mapping[str, Callable[[np.ndarray, list[int]], np.ndarray]] = {
    "Transpose": lambda array, axes: array.transpose(axes),
    "Unsqueeze": _unsqueeze,
    "Reshape": lambda array, axes: array.reshape(axes),
}


def _axes(node: ir.Node) -> list[int] | None:
    """The permutation, axes or shape of a layout node; None if it isn't a constant."""
    if node.op_type == "Transpose":
        return [int(axis) for axis in node.attributes["perm"].as_ints()]
    value = node.inputs[1]
    constant = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if constant is None else [int(axis) for axis in constant.numpy().reshape(-1)]


def _strip(model: ir.Model) -> None:
    """Remove what the exporter noted for debugging: stack traces, paths of this machine."""
    model.metadata_props.clear()
    model.doc_string = None
    model.producer_name, model.producer_version = "keepstep", None
    graph = model.graph
    graph.name, graph.doc_string = "stage", None
    graph.metadata_props.clear()
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
    for i, node in enumerate(graph):
        node.metadata_props.clear()
        node.doc_string = None
        node.name = f"{node.op_type}_{i}"
        for value in node.outputs:
            value.metadata_props.clear()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The converter talks about optional packages and about itself; none of it is the user's."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
