"""The values of a plan as arrays on the host, for what runs its stages one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from keepstep.runtime.folder.tensors import numpy_dtype
from keepstep.runtime.format.plan import Binding, Plan, TensorType
from keepstep.runtime.memory.inputs import default_array

Array = TypeVar("Array", bound=Any)  # numpy's or torch's


def start_values(plan: Plan, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every value but constants before the first call: inputs or their defaults, else zeros."""
    zeros = {
        name: np.zeros(value.type.shape, numpy_dtype(value.type.dtype))
        for name, value in plan.values.items()
        if value.kind != "constant"
    }
    defaults = {n: default_array(v) for n, v in plan.values.items() if v.default is not None}
    return zeros | defaults | dict(inputs)


def rows(value: Array, binding: Binding, tensor: TensorType) -> Array:
    """The part of a value that a tensor is bound to, without a copy."""
    if binding.row is None:
        return value
    part: Array = value[binding.row : binding.row + tensor.shape[0]]
    return part


def put(plan: Plan, i: int, outputs: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Let `values` be what they are when call `i` has given `outputs`."""
    call = plan.calls[i]
    for tensor, binding in call.writes.items():
        place = rows(values[binding.value], binding, plan.stages[call.stage].outputs[tensor])
        place[...] = outputs[tensor]
