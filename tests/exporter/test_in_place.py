from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from exporter.small_stages import f32, numbers, stage
from onnx import helper

from keepstep.exporter.check.in_place import check_in_place
from keepstep.exporter.engines import OnnxStage
from keepstep.exporter.errors import ExportError
from keepstep.runtime.format.plan import Stage, TensorType

KV, ROWS = f32(6, 4), f32(2, 4)
INDEX = TensorType("int64", (2, 1))
INPUTS = {"kv": numbers((6, 4)), "rows": numbers((2, 4), 1), "index": np.array([[5], [0]])}


def declared(code: OnnxStage) -> Stage:
    return Stage(code.inputs, code.outputs, {"onnxruntime": "x"}, in_place={"kv_new": "kv"})


def update(read_afterwards: str) -> OnnxStage:
    """Two rows are scattered into `kv`, and something is multiplied with the result."""
    return stage(
        [
            helper.make_node("ScatterND", ["kv", "index", "rows"], ["kv_new"], name="Scatter_0"),
            helper.make_node("Mul", ["kv_new", read_afterwards], ["seen"], name="Mul_1"),
        ],
        inputs={"kv": KV, "rows": ROWS, "index": INDEX},
        outputs={"kv_new": KV, "seen": KV},
    )


def test_an_engine_that_keeps_the_promise_is_accepted() -> None:
    code = update(read_afterwards="kv_new")
    given = {name: array.copy() for name, array in INPUTS.items()}
    check_in_place("update", declared(code), code.onnx, given)
    for name, array in INPUTS.items():
        assert np.array_equal(given[name], array), "what is given is not written to"


def test_an_engine_that_reads_its_input_too_late_is_refused() -> None:
    code = update(read_afterwards="kv")
    with pytest.raises(
        ExportError, match=r"'update': played in place \('kv_new' in 'kv'\)"
    ) as error:
        check_in_place("update", declared(code), code.onnx, INPUTS)
    assert "8 of 24 elements of 'seen'" in str(error.value)
    assert "in_place" in str(error.value).rpartition(";")[2]


def test_an_engine_that_writes_before_it_has_read_is_refused() -> None:
    square = f32(8, 8)
    node = helper.make_node("Transpose", ["kv"], ["kv_new"], name="Transpose_0", perm=[1, 0])
    code = stage([node], inputs={"kv": square}, outputs={"kv_new": square})
    with pytest.raises(ExportError, match="elements of 'kv_new' are other"):
        check_in_place("turn", declared(code), code.onnx, {"kv": numbers((8, 8))})


def test_a_stage_that_promises_nothing_is_not_run() -> None:
    nothing = replace(declared(update("kv")), in_place={})
    check_in_place("update", nothing, b"no engine", INPUTS)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_not_a_number_equals_itself(dtype: str) -> None:
    half = TensorType(dtype, (4,))
    node = helper.make_node("Identity", ["kv"], ["kv_new"], name="Identity_0")
    code = stage([node], inputs={"kv": half}, outputs={"kv_new": half})
    bits = np.array([0x7FFF, 0x0001, 0x8000, 0x3C00], np.uint16)
    given = bits.view(np.float16) if dtype == "float16" else bits
    check_in_place("same", declared(code), code.onnx, {"kv": given})
