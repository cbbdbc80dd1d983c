"""Operations that say in an uncommon way what others say in a common one."""

from __future__ import annotations

import torch
from torch import fx

aten = torch.ops.aten


def write_plainly(graph: fx.Graph) -> None:
    """Replace what engines do not know or take otherwise, in `graph` itself."""
    for node in graph.find_nodes(op="call_function", target=aten.squeeze.dim):
        _drop_if_nothing(node)
    for node in graph.find_nodes(op="call_function", target=aten.einsum.default):
        _permute(node)


def _drop_if_nothing(squeeze: fx.Node) -> None:
    """An axis that is longer than one: nothing to PyTorch, an error to ONNX."""
    source = squeeze.all_input_nodes[0]
    if source.meta["val"].shape == squeeze.meta["val"].shape:
        squeeze.replace_all_uses_with(source)
        squeeze.graph.erase_node(squeeze)


def _permute(einsum: fx.Node) -> None:
    """A sum over nothing, by which transformers put patches together: `nhwpqc->nchpwq`."""
    given, _, made = str(einsum.args[0]).replace(" ", "").partition("->")
    if len(einsum.all_input_nodes) != 1 or sorted(given) != sorted(made):
        return
    axes = [given.index(axis) for axis in made]
    with einsum.graph.inserting_before(einsum):
        permute = einsum.graph.call_function(
            aten.permute.default, (einsum.all_input_nodes[0], axes)
        )
    permute.meta.update(einsum.meta)
    einsum.replace_all_uses_with(permute)
    einsum.graph.erase_node(einsum)
