"""Types of tensors by their names, as short JSON: a dtype and a shape each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keepstep.runtime.format.plan import TensorType


def signature_data(tensors: Mapping[str, TensorType]) -> dict[str, list[object]]:
    """What `json.dumps` takes."""
    return {name: [tensor.dtype, list(tensor.shape)] for name, tensor in tensors.items()}


def signature_from_data(data: Mapping[str, Any]) -> dict[str, TensorType]:
    """The types of which this is the data. Raises `ValueError` or `TypeError` for any other."""
    return {name: TensorType(dtype, tuple(shape)) for name, (dtype, shape) in data.items()}
