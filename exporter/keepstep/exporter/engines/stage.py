"""A stage as ONNX code, and the check that what was made of it still has its interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keepstep.runtime.format.plan import TensorType
from keepstep.runtime.format.rules_values import type_text
from keepstep.runtime.quoting import quote


@dataclass(frozen=True)
class OnnxStage:
    """A stage as ONNX code: static shapes, weights as inputs."""

    name: str  # "full", "text", …: for messages
    onnx: bytes  # a ModelProto; graph inputs = inputs + weights, weights last
    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]
    weights: Mapping[str, TensorType]
    macs: int


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
