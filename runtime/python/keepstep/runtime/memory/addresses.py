"""Where every tensor of every call lies in memory, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping

from keepstep.runtime.errors import BackendError
from keepstep.runtime.format.plan import ALIGNMENT, Binding, Plan, TensorType, begin_in_value
from keepstep.runtime.memory.constants import ConstantPart, constant_part


def call_addresses(
    plan: Plan, arena: int, constants: Mapping[ConstantPart, int]
) -> tuple[Mapping[str, int], ...]:
    """For every call, the address of every tensor that it reads and writes.

    arena       address of the arena
    constants   address of each of `constant_parts`
    """
    addresses = []
    for call in plan.calls:
        stage = plan.stages[call.stage]
        types = {**stage.inputs, **stage.outputs}
        addresses.append(
            {
                tensor: _address(plan, binding, types[tensor], arena, constants)
                for tensor, binding in {**call.reads, **call.writes}.items()
            }
        )
    return tuple(addresses)


def weight_addresses(
    plan: Plan, stage: str, constants: Mapping[ConstantPart, int]
) -> Mapping[str, int]:
    """The address of every weight of a stage."""
    weights = plan.stages[stage].weights
    return {tensor: constants[ConstantPart(value)] for tensor, value in weights.items()}


def check_alignment(plan: Plan) -> None:
    """Raise `BackendError` where a call means rows of the arena that begin off the alignment."""
    for i, call in enumerate(plan.calls):
        for binding in (*call.reads.values(), *call.writes.values()):
            value = plan.values[binding.value]
            if value.kind != "constant" and begin_in_value(value, binding) % ALIGNMENT:
                raise BackendError(
                    f"plan {plan.name!r}: calls[{i}] means row {binding.row} of "
                    f"{binding.value!r}, which begins {begin_in_value(value, binding)} bytes "
                    f"behind the first, and this backend needs multiples of {ALIGNMENT}: export "
                    "with a height and a width that are multiples of 32, or play with onnxruntime"
                )


def _address(
    plan: Plan,
    binding: Binding,
    tensor: TensorType,
    arena: int,
    constants: Mapping[ConstantPart, int],
) -> int:
    value = plan.values[binding.value]
    if value.offset is None:
        return constants[constant_part(binding, tensor)]
    return arena + value.offset + begin_in_value(value, binding)
