"""Where tensors lie, against numpy's own arithmetic on views of one block of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from plans.make import mutated, text_of
from plans.valid import VALID

from keepstep.runtime import BackendError
from keepstep.runtime.folder.tensors import numpy_dtype
from keepstep.runtime.format.plan import Plan
from keepstep.runtime.format.plan_json import plan_from_json
from keepstep.runtime.memory.addresses import call_addresses, check_alignment, weight_addresses
from keepstep.runtime.memory.constants import ConstantPart, constant_parts

ARENA = 1 << 40
SMALL = 1 << 30  # bytes: larger arenas are not made here


def plan(name: str) -> Plan:
    return plan_from_json(text_of(mutated(VALID[name])), name)


def numpy_address(plan: Plan, name: str, row: int | None) -> int:
    """By slicing an array that numpy lays over a block of the arena's size."""
    value = plan.values[name]
    assert value.offset is not None
    block = np.empty(plan.arena_bytes, np.uint8)
    flat = block[value.offset : value.offset + value.type.bytes].view(numpy_dtype(value.type.dtype))
    array = flat.reshape(value.type.shape)
    part = array if row is None else array[row:]
    return ARENA + part.ctypes.data - block.ctypes.data


@pytest.mark.parametrize("name", VALID)
def test_every_tensor_lies_where_its_value_or_its_rows_lie(name: str) -> None:
    made = plan(name)
    parts = constant_parts(made)
    constants = {part: 1000 * i for i, part in enumerate(parts)}
    addresses = call_addresses(made, ARENA, constants)
    assert len(addresses) == len(made.calls)
    for call, found in zip(made.calls, addresses, strict=True):
        stage = made.stages[call.stage]
        assert found.keys() == {*stage.inputs, *stage.outputs}
        for tensor_name, binding in {**call.reads, **call.writes}.items():
            value = made.values[binding.value]
            if value.kind == "constant":
                rows = 0 if binding.row is None else stage.inputs[tensor_name].shape[0]
                part = ConstantPart(binding.value, binding.row, rows)
                assert found[tensor_name] == constants[part]
            elif made.arena_bytes < SMALL:
                expected = numpy_address(made, binding.value, binding.row)
                assert found[tensor_name] == expected


def test_a_table_bound_row_by_row_is_one_part_a_row_and_a_weight_one_as_a_whole() -> None:
    toy = plan("toy")
    parts = set(constant_parts(toy))
    rows = {binding for call in toy.calls for binding in call.reads.values()}
    for value in ("coef", "times"):
        used = {binding.row for binding in rows if binding.value == value}
        assert {part.row for part in parts if part.value == value} == used
    (weight,) = toy.stages["full"].weights.values()
    constants = {part: i for i, part in enumerate(constant_parts(toy))}
    (address,) = weight_addresses(toy, "full", constants).values()
    assert address == constants[ConstantPart(weight)]


def wide_history(plan: dict[str, Any]) -> None:
    """Rows of the history that fill a whole number of alignments; rows of tables still do not."""
    plan["values"]["history"]["shape"][1] = 64


def test_rows_of_the_arena_off_the_alignment_are_refused_and_rows_of_constants_are_not() -> None:
    with pytest.raises(
        BackendError, match=r"means row \d of 'history'.*multiples of 256.*multiples of 32"
    ):
        check_alignment(plan("toy"))
    wide = plan_from_json(text_of(mutated(wide_history)), "toy")
    assert any(part.row for part in constant_parts(wide))
    check_alignment(wide)
