"""Attention as one operator, for which ONNX Runtime has kernels that need not hold all scores.

The code of a stage spells attention out: two products of matrices, a softmax between them, heads
that are moved apart before and back together behind. TensorRT finds attention in that by itself.
ONNX Runtime does not, and has `MultiHeadAttention` for it, which takes heads side by side, as the
layers before it make them: flash attention in half precision on a GPU, and its like on a CPU.
ONNX's own `Attention` would need a newer opset, and its kernel for CPUs does hold all scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnxscript.rewriter import pattern

OPERATOR, DOMAIN = "MultiHeadAttention", "com.microsoft"

# Features of the widest head that is fused: flash attention takes no wider one on a GPU, and on a
# CPU these are slower than spelled out. The single head of a VAE, 512 wide, is the known case.
WIDEST_HEAD = 256

# (batch, heads, tokens, features) from (batch, tokens, heads, features), and back.
_MOVE_HEADS = (0, 2, 1, 3)


def fuse_attention(code: bytes) -> bytes:
    """The same ONNX model with one `MultiHeadAttention` for every attention that is spelled out.

    code   a ModelProto as PyTorch's converter writes it, with the type of every value
    What is not recognised stays as it is.
    """
    model = ir.from_proto(onnx.load_model_from_string(code))
    # Nodes stay while others use them: what nobody uses is removed when all rules are applied.
    rule = pattern.RewriteRule(_spelled_out, _fused, _is_attention, remove_nodes=False)
    pattern.RewriteRuleSet([rule]).apply_to_model(model)
    for node in model.graph:
        node.metadata_props.clear()  # the rewriter notes the rule's name
    data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return data


def _spelled_out(
    op: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    query_scale: Any,
    key_scale: Any,
) -> Any:
    """softmax(query @ keyᵀ · scale + mask) @ value for heads apart, and then heads side by side.

    The scale is in two factors. Weights of a query that sees no key are zeros instead of NaN.
    """
    flat = op.Reshape(key, pattern.ANY_VALUE, _outputs=["flat"])
    across = op.Transpose(flat, perm=[0, 2, 1])
    across = op.Reshape(across, pattern.ANY_VALUE, _outputs=["across"])
    scores = op.MatMul(op.Mul(query, query_scale), op.Mul(across, key_scale))
    weights = op.Softmax(pattern.OrValue([op.Add(scores, mask), scores]), axis=-1)
    weights = pattern.OrValue(
        [op.Where(op.IsNaN(weights), 0.0, weights), weights],
        tag_var="guarded",
        tag_values=[True, False],
    )
    moved = op.Transpose(op.MatMul(weights, value), perm=list(_MOVE_HEADS))
    return op.Reshape(moved, pattern.ANY_VALUE, _outputs=["result"])


def _is_attention(
    context: object,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    mask: ir.Value | None,
    query_scale: ir.Value,
    key_scale: ir.Value,
    flat: ir.Value,
    across: ir.Value,
    guarded: bool,
    result: ir.Value,
) -> bool:
    """Whether what has the form of attention is what the operator computes."""
    if len(_shape(query)) != 4 or len(_shape(value)) != 4:
        return False
    batch, heads, queries, features = _shape(query)
    _, _, keys, value_features = _shape(value)
    shapes = (
        (key, (batch, heads, keys, features)),
        (value, (batch, heads, keys, value_features)),
        (flat, (batch * heads, keys, features)),
        (across, (batch, heads, features, keys)),
        (result, (batch, queries, heads * value_features)),
    )
    return (
        all(_shape(found) == expected for found, expected in shapes)
        and max(features, value_features) <= WIDEST_HEAD
        and _scale(query_scale, key_scale) > 0  # zero would be the operator's own choice
        and (mask is None or _is_mask(mask, (batch, heads, queries, keys)))
        and (not guarded or (mask is not None and _every_query_sees_a_key(mask)))
    )


def _fused(
    op: Any,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    mask: ir.Value | None,
    query_scale: ir.Value,
    key_scale: ir.Value,
    **_: object,
) -> Any:
    """The same as one node, with what brings heads side by side where they were made apart."""
    tokens = [_side_by_side(op, heads_apart) for heads_apart in (query, key, value)]
    optional = [] if mask is None else [None, None, mask]  # no bias of projections, no padding
    return op.MultiHeadAttention(
        *tokens,
        *optional,
        num_heads=_shape(query)[1],
        scale=_scale(query_scale, key_scale),
        _domain=DOMAIN,
    )


def _side_by_side(op: Any, apart: ir.Value) -> Any:
    """(batch, heads, tokens, features) as (batch, tokens, heads × features).

    That is what `apart` was made from, unless another stage gives it with its heads apart.
    """
    batch, heads, tokens, features = _shape(apart)
    together = (batch, tokens, heads * features)
    source = _moved_apart(apart)
    if source is not None and _shape(source) == together:
        return source
    moved_back = op.Transpose(apart, perm=list(_MOVE_HEADS))
    flat = op.Reshape(moved_back, op.Constant(value_ints=list(together)))
    # Every tensor of an engine has a declared type (rule 20).
    for made, shape in ((moved_back, (batch, tokens, heads, features)), (flat, together)):
        made.type, made.shape = apart.type, ir.Shape(shape)
    return flat


def _moved_apart(apart: ir.Value) -> ir.Value | None:
    """From what a Reshape and a Transpose made `apart`; None if others did."""
    move = apart.producer()
    if move is None or move.op_type != "Transpose":
        return None
    if tuple(move.attributes["perm"].as_ints()) != _MOVE_HEADS:
        return None
    split = move.predecessors()
    return split[0].inputs[0] if split and split[0].op_type == "Reshape" else None


def _scale(query_scale: ir.Value, key_scale: ir.Value) -> float:
    """The product of two constants of one number each; 0 if they are not that."""
    query, key = _constant(query_scale), _constant(key_scale)
    if query is None or key is None or query.size != 1 or key.size != 1:
        return 0.0
    return float(query.item()) * float(key.item())


def _is_mask(mask: ir.Value, scores: tuple[int, int, int, int]) -> bool:
    """Whether the operator takes it: it spreads a mask over pictures and heads, no further."""
    shape = _shape(mask)
    return (
        len(shape) == 4
        and shape[2:] == scores[2:]
        and all(found in (1, size) for found, size in zip(shape[:2], scores[:2], strict=True))
    )


def _every_query_sees_a_key(mask: ir.Value) -> bool:
    """Whether there is a key for every query to which the mask, a constant, adds nothing."""
    numbers = _constant(mask)
    return numbers is not None and bool((numbers == 0).any(axis=-1).all())


def _constant(value: ir.Value) -> np.ndarray | None:
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _shape(value: ir.Value) -> tuple[int, ...]:
    """Sizes of a value; none where they are not known, which no attention has."""
    if value.shape is None or not value.shape.is_static():
        return ()
    return tuple(int(size) for size in value.shape.numpy())
