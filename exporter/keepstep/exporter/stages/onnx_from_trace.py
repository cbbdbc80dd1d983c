"""A subgraph as an ONNX model whose weights are inputs, so that the model holds only code."""

from __future__ import annotations

import onnx_ir as ir
import onnxscript.optimizer
import torch
from onnx_ir.passes import common as common_passes
from onnxscript import rewriter
from torch import Tensor

from keepstep.runtime.format.plan import TensorType

from ..engines.stage import OnnxStage
from ..graph.extract import Subgraph
from ..graph.macs import count_macs
from ..graph.quiet import quiet

OPSET = 20


def onnx_from_subgraph(name: str, subgraph: Subgraph) -> OnnxStage:
    """Convert, optimise, and fold what depends on weights alone. No weight is read."""
    inputs, weights = subgraph.inputs, subgraph.weights
    examples = (*inputs.values(), *weights.values())
    mode = next(iter(inputs.values())).fake_mode  # type: ignore[attr-defined]
    with mode, torch.no_grad(), quiet():
        exported = torch.export.export(subgraph.module.eval(), examples, strict=False)
        program = torch.onnx.export(
            exported,
            input_names=[*inputs, *weights],
            output_names=[*subgraph.outputs],
            opset_version=OPSET,
            dynamo=True,
            # Optimised below instead, when weights are known to be inputs and can't be folded.
            optimize=False,
            verbose=False,
        )
    assert program is not None
    model = program.model
    with quiet():
        _optimise(model)
    types = _fold_weights(model, {path: tensor_type(tensor) for path, tensor in weights.items()})
    common_passes.RemoveUnusedNodesPass()(model)
    _strip(model)
    return OnnxStage(
        name=name,
        onnx=ir.to_proto(model).SerializeToString(deterministic=True),
        inputs={name: tensor_type(tensor) for name, tensor in inputs.items()},
        outputs={name: tensor_type(tensor) for name, tensor in subgraph.outputs.items()},
        weights=types,
        macs=count_macs(subgraph),
    )


def _optimise(model: ir.Model) -> None:
    """What `onnxscript.optimizer.optimize_ir` does, but for one rule.

    It looks at the whole graph for every node, for slices that could be one Split: ten times as
    long as all the rest together, and our networks have no such slices.
    """
    rules = [rule for rule in rewriter._DEFAULT_REWRITE_RULES if rule.name != "SlicesSplit"]
    common_passes.InlinePass()(model)
    for _ in range(2):
        onnxscript.optimizer.fold_constants(model, onnx_shape_inference=True)
        rewriter.RewriteRuleSet(rules).apply_to_model(model)
        common_passes.RemoveUnusedNodesPass()(model)
    for tidy in (
        common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common_passes.DeduplicateInitializersPass(),
        common_passes.CommonSubexpressionEliminationPass(),
        common_passes.OutputFixPass(),
        common_passes.NameFixPass(),
    ):
        tidy(model)


def tensor_type(tensor: Tensor) -> TensorType:
    """What a plan says of a tensor like this one."""
    return TensorType(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def _fold_weights(model: ir.Model, weights: dict[str, TensorType]) -> dict[str, TensorType]:
    """Replace layout changes of weights by weights in that layout; drop unused weight inputs.

    The new weight's name says what was done to the old one (`weights.py`).
    """
    by_name = {value.name: value for value in model.graph.inputs}
    for node in list(model.graph):
        source = node.inputs[0] if node.inputs else None
        if source is None or source.name not in weights:
            continue
        change = _layout(node, weights[source.name].shape)
        if change is None:
            continue
        numbers, shape = change
        suffix = "-".join([node.op_type.lower(), *(str(number) for number in numbers)])
        name = f"{source.name}:{suffix}"
        if name not in weights:
            weights[name] = TensorType(weights[source.name].dtype, shape)
            by_name[name] = ir.Value(name=name, type=source.type, shape=ir.Shape(list(shape)))
            model.graph.inputs.append(by_name[name])
        ir.convenience.replace_all_uses_with(node.outputs[0], by_name[name])
        model.graph.remove(node, safe=True)
    used = {v.name for n in model.graph for v in n.inputs if v is not None}
    for name in [name for name in weights if name not in used]:
        model.graph.inputs.remove(by_name[name])
        del weights[name]
    return weights


def _layout(
    node: ir.Node, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """What a layout node does to a tensor of `shape`, and the shape that it gives.

    A permutation, the axes that are inserted, or the new shape; None for any other node.
    """
    if node.op_type == "Transpose":
        axes = tuple(node.attributes["perm"].as_ints())
        return axes, tuple(shape[axis] for axis in axes)
    result = node.outputs[0].shape
    if node.op_type not in ("Unsqueeze", "Reshape") or result is None or not result.is_static():
        return None
    given = tuple(int(axis) for axis in result.numpy())
    if node.op_type == "Reshape":
        return given, given
    value = node.inputs[1]
    constant = ir.convenience.get_const_tensor(value) if value is not None else None
    if constant is None:
        return None
    axes = tuple(sorted(int(axis) % len(given) for axis in constant.numpy().reshape(-1)))
    return axes, given


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
