"""A stage as ONNX code, and the check that what was made of it still has its interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keepstep.runtime.format.plan import TensorType
from keepstep.runtime.format.rules_values import type_text
from keepstep.runtime.quoting import quote

if TYPE_CHECKING:
    from ..graph.extract import Subgraph


@dataclass(frozen=True)
class OnnxStage:
    """A stage as ONNX code: static shapes, weights as inputs.

    subgraph   what the code was made of, in its dtypes, traced when it is asked for; None where
               only the code is known
    """

    name: str  # "full", "text", …: for messages
    onnx: bytes  # a ModelProto; graph inputs = inputs + weights, weights last
    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]
    weights: Mapping[str, TensorType]
    macs: int
    subgraph: Callable[[], Subgraph] | None = field(default=None, compare=False, repr=False)


def check_interface(
    where: str,
    found: tuple[Mapping[str, TensorType], Mapping[str, TensorType]],
    expected: tuple[Mapping[str, TensorType], Mapping[str, TensorType]],
) -> None:
    """Raise `AssertionError` with every difference between `found` and `expected`.

    Both are inputs and outputs. A difference is a fault of ours: stages and their ONNX code are
    made together, and a runtime binds memory by these names, types and shapes.
    """
    differences = [
        f"{what} {quote(name)} is {_text(here.get(name))}, not {_text(there.get(name))}"
        for what, here, there in zip(("input", "output"), found, expected, strict=True)
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    ]
    if differences:
        raise AssertionError(f"{where}: " + "; ".join(differences))


def _text(tensor: TensorType | None) -> str:
    return "missing" if tensor is None else type_text(tensor)
