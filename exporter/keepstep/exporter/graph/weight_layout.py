"""Weights by name: what was done to a checkpoint's tensor is said by the name of the weight.

`unet.conv_in.weight` is the checkpoint's tensor in float32. Suffixes say what was done to it, in
order: a dtype (`:float16`), then which part of it is taken, and changes of layout (`:slice-0-4-8`,
`:transpose-1-0`, `:unsqueeze-0`, `:reshape-8-1-1`). So an engine's weights name all that is needed
to make them from any checkpoint of the same architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..models.checkpoint import FLOATS

LAYOUTS: Mapping[str, Callable[[Tensor, list[int]], Tensor]] = {
    "transpose": lambda tensor, axes: tensor.permute(axes),
    "unsqueeze": lambda tensor, axes: _unsqueeze(tensor, axes),
    "reshape": lambda tensor, shape: tensor.reshape(shape),
    "slice": lambda tensor, at: tensor.narrow(*at),  # axis, first index, how many
}
Change = tuple[str, list[int]]


def path_of(name: str) -> str:
    """The checkpoint's tensor from which the weight `name` is made."""
    return name.partition(":")[0]


def source_of(name: str) -> str:
    """The weight's name before its layout was changed: a path, and a dtype if it has one."""
    path, *changes = name.split(":")
    return ":".join([path, *(change for change in changes[:1] if change in FLOATS)])


def in_dtype(name: str, dtype: torch.dtype) -> str:
    """The name of the weight `name`, of float32, in `dtype`."""
    if dtype is torch.float32:
        return name
    path, *changes = name.split(":")
    return ":".join([path, str(dtype).removeprefix("torch."), *changes])


def changes_of(name: str) -> list[Change]:
    """What was done to the layout of the weight `name`, in order: keys of `LAYOUTS` and numbers."""
    changes = name.removeprefix(source_of(name)).split(":")[1:]
    split = [change.split("-") for change in changes]
    return [(kind, [int(number) for number in numbers]) for kind, *numbers in split]


def plain_weight(name: str, weight: Tensor, source: str, shape: Sequence[int]) -> Tensor:
    """The weight `name` in the layout of the weight `source` that it was made of, of `shape`: a
    view, or nearly always."""
    plain = torch.empty(tuple(shape), device="meta")
    steps = []
    for kind, numbers in changes_of(name)[len(changes_of(source)) :]:
        steps.append((kind, numbers, plain.shape))
        plain = LAYOUTS[kind](plain, numbers)
    for kind, numbers, before in reversed(steps):
        weight = (
            undo_permutation(weight, numbers) if kind == "transpose" else weight.reshape(before)
        )
    return weight


def undo_permutation(tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """The tensor of which `tensor` is a permutation by `axes`."""
    return tensor.permute([axes.index(axis) for axis in range(len(axes))])


def _unsqueeze(tensor: Tensor, axes: list[int]) -> Tensor:
    for axis in sorted(axes):
        tensor = tensor.unsqueeze(axis)
    return tensor
