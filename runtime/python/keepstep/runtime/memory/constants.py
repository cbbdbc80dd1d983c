"""The parts of a plan's constants that its calls and stages are bound to.

A table is bound row by row and a weight as a whole. Each part is handed to a device by itself:
engines want addresses that are multiples of 256, and rows of a table seldom are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.format.plan import Binding, Plan, TensorType


@dataclass(frozen=True)
class ConstantPart:
    """`rows` rows of the constant `value` from `row` on, or all of it."""

    value: str
    row: int | None = None
    rows: int = 0


def constant_part(binding: Binding, tensor: TensorType) -> ConstantPart:
    """What a tensor is bound to."""
    if binding.row is None:
        return ConstantPart(binding.value)
    return ConstantPart(binding.value, binding.row, tensor.shape[0])


def constant_parts(plan: Plan) -> tuple[ConstantPart, ...]:
    """Every part that a stage has as a weight or a call reads, each once."""
    return tuple(dict.fromkeys(_parts(plan)))


def host_array(bundle: BundleFolder, plan: Plan, part: ConstantPart) -> np.ndarray:
    """A part in the bundle's mapped memory."""
    value = plan.values[part.value]
    assert value.file is not None
    assert value.tensor is not None
    array = bundle.array(value.file, value.tensor)
    return array if part.row is None else array[part.row : part.row + part.rows]


def _parts(plan: Plan) -> Iterator[ConstantPart]:
    for stage in plan.stages.values():
        for value in stage.weights.values():
            yield ConstantPart(value)
    for call in plan.calls:
        for tensor, binding in call.reads.items():
            if plan.values[binding.value].kind == "constant":
                yield constant_part(binding, plan.stages[call.stage].inputs[tensor])
