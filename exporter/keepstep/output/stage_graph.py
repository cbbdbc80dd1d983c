"""The graph of a stage for people: its operations in the order in which they run, and the modules
that they come from.

A weight's name says from which module it is (`unet.down_blocks.0.resnets.0.conv1.weight`). An
operation without weights belongs to the module before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

START = "start"  # of operations before the first weight


@dataclass(frozen=True)
class Operation:
    """A node of the graph.

    module   the path of the module that it comes from
    macs     multiply–accumulate operations; those of convolutions, products and attention
    """

    node: ir.Node
    module: str
    macs: int


def operations(model: ir.Model) -> list[Operation]:
    """Those of a stage's ONNX code, in the order in which they run."""
    weights = model.graph.initializers
    found, module = [], START
    for node in model.graph:
        read = [str(value.name) for value in node.inputs if value is not None]
        own = [name for name in read if name in weights and "." in name]
        if own:
            module = own[0].partition(":")[0].rpartition(".")[0]
        found.append(Operation(node, module, macs_of(node)))
    return found


def macs_of(node: ir.Node) -> int:
    """Multiply–accumulate operations of one node; 0 where it has none, or a shape is not known."""
    shapes = [_shape(value) for value in node.inputs]
    given = _shape(node.outputs[0])
    if given is None or not shapes or None in shapes[:2]:
        return 0
    if node.op_type in ("MatMul", "Gemm"):
        return prod(given) * (shapes[0] or [1])[-1]
    if node.op_type == "Conv":
        kernel = shapes[1] or ()
        return prod(given) * prod(kernel[1:])
    if node.op_type == "MultiHeadAttention":  # both products: of queries by keys, and by values
        return 2 * prod(given) * (shapes[1] or (1, 1))[1]
    return 0


def graph_text(model: ir.Model, title: str) -> str:
    """A line an operation: what it gives, which it is, what it reads; a heading a module."""
    found = operations(model)
    macs = sum(operation.macs for operation in found)
    lines = [f"# {title}: {len(found)} operations, {macs / 1e6:.4g} MMAC", ""]
    lines += [f"{value.name}: {type_of(value)}  # input" for value in _read(model)]
    module = None
    for operation in found:
        if operation.module != module:
            module = operation.module
            lines += ["", f"# {module}"]
        lines.append(_line(operation.node))
    lines += ["", f"# gives {', '.join(str(value.name) for value in model.graph.outputs)}", ""]
    return "\n".join(lines)


def type_of(value: ir.Value) -> str:
    """Such as `float32[1,64,128]`; `?` for what is not known."""
    dtype = "?" if value.dtype is None else value.dtype.numpy().name
    shape = "?" if value.shape is None else ",".join(str(size) for size in value.shape)
    return f"{dtype}[{shape}]"


def _read(model: ir.Model) -> Iterator[ir.Value]:
    """The inputs that are no weights."""
    weights = model.graph.initializers
    return (value for value in model.graph.inputs if value.name not in weights)


def _line(node: ir.Node) -> str:
    given = ", ".join(f"{value.name}: {type_of(value)}" for value in node.outputs if value.name)
    read: list[str] = ["" if value is None else str(value.name) for value in node.inputs]
    read += [f"{attribute.name}={_short(attribute)}" for attribute in node.attributes.values()]
    return f"{given} = {node.op_type}({', '.join(read)})"


def _short(attribute: ir.Attr) -> str:
    text = str(attribute.value).replace("\n", " ")
    return text if len(text) <= 60 else f"{text[:60]}…"


def _shape(value: ir.Value | None) -> Sequence[int] | None:
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return value.shape.numpy()
