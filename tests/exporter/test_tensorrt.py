"""TensorRT-RTX engines, built without a GPU: types, targets, and what the library refuses."""

from __future__ import annotations

import json
import signal
import threading
from dataclasses import fields, replace

import numpy as np
import pytest
from exporter.small_stages import (
    EMBEDDED,
    ONNX_TYPES,
    RTX,
    SHARED,
    f32,
    layer,
    numbers,
    stage,
    top_k,
)
from onnx import TensorProto, helper

from keepstep.exporter.engines import BuildOptions, OnnxStage, builder
from keepstep.exporter.errors import ExportError
from keepstep.runtime.format.plan import ITEM_BYTES, TensorType

pytestmark = RTX


def rtx(made: OnnxStage, options: BuildOptions = SHARED) -> bytes:
    return builder("tensorrt-rtx", options).build(made, None)


def test_a_network_of_other_types_than_the_code_declares_is_told() -> None:
    """The parser believes the nodes, not the declared outputs."""
    cast = helper.make_node("Cast", ["x"], ["y"], name="Cast_0", to=TensorProto.FLOAT16)
    made = stage([cast], {"x": f32(4)}, {"y": f32(4)})
    with pytest.raises(AssertionError, match=r"output 'y' is float16\[4\], not float32\[4\]"):
        rtx(made)


@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_tensors_of_every_dtype_of_a_plan_go_into_and_out_of_an_engine(dtype: str) -> None:
    tensor = TensorType(dtype, (2, 4))
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], name="Cast_0", to=TensorProto.FLOAT),
        helper.make_node("Add", ["a", "a"], ["b"], name="Add_1"),
        helper.make_node("Cast", ["b"], ["y"], name="Cast_2", to=ONNX_TYPES[dtype]),
    ]
    assert rtx(stage(nodes, {"x": tensor}, {"y": tensor}))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_with_norm_and_softmax_in_float32_is_built(dtype: str) -> None:
    half, tensor = ONNX_TYPES[dtype], TensorType(dtype, (8, 8))
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], name="Cast_0", to=TensorProto.FLOAT),
        helper.make_node("LayerNormalization", ["a", "g"], ["b"], name="LayerNormalization_1"),
        helper.make_node("Cast", ["b"], ["c"], name="Cast_2", to=half),
        helper.make_node("MatMul", ["c", "w"], ["d"], name="MatMul_3"),
        helper.make_node("Cast", ["d"], ["e"], name="Cast_4", to=TensorProto.FLOAT),
        helper.make_node("Softmax", ["e"], ["f"], name="Softmax_5"),
        helper.make_node("Cast", ["f"], ["y"], name="Cast_6", to=half),
    ]
    assert rtx(stage(nodes, {"x": tensor}, {"y": tensor}, {"g": f32(8), "w": tensor}))


@pytest.mark.parametrize("operator", ["Frobnicate", "SplitToSequence"])
def test_an_operator_that_is_not_known_is_told_with_its_node(operator: str) -> None:
    node = helper.make_node(operator, ["x"], ["y"], name="Node_7")
    made = stage([node], {"x": f32(4)}, {"y": f32(4)})
    expected = rf"TensorRT-RTX [\d.]+ cannot read stage 'mine': {operator} node 'Node_7'.*backend"
    with pytest.raises(ExportError, match=expected) as raised:
        rtx(made)
    assert "\n" not in str(raised.value)
    assert "CUDA" not in str(raised.value), "that there is no GPU is beside the point"


def test_types_that_do_not_agree_are_told_with_the_node() -> None:
    node = helper.make_node("MatMul", ["x", "h"], ["y"], name="MatMul_3")
    made = stage([node], {"x": f32(4, 4), "h": TensorType("float16", (4, 4))}, {"y": f32(4, 4)})
    with pytest.raises(ExportError, match=r"MatMul node 'MatMul_3'.*Float.*Half") as raised:
        rtx(made)
    assert "CUDA" not in str(raised.value)


def test_the_largest_top_k_is_built_and_a_larger_one_is_told_with_the_way_out() -> None:
    assert rtx(top_k(3840))
    with pytest.raises(ExportError, match=r"cannot build stage 'mine'.*TopK_0.*3840.*ratio"):
        rtx(top_k(3841))


def test_an_error_does_not_tell_of_the_one_before() -> None:
    with pytest.raises(ExportError, match="TopK_0"):
        rtx(top_k(3841))
    with pytest.raises(ExportError) as raised:
        rtx(layer(), BuildOptions(compute_capabilities=("7.5",)))
    assert "TopK_0" not in str(raised.value)
    assert "7.5" in str(raised.value)


def test_an_engine_is_built_for_the_gpus_asked_for() -> None:
    engines = [
        rtx(layer(), BuildOptions(compute_capabilities=chosen))
        for chosen in ((), ("8.9",), ("8.9", "12.0"), ("12.0", "8.9"))
    ]
    assert len(set(engines[:3])) == 3
    assert engines[2] == engines[3], "their order is nothing that an engine depends on"


def test_a_compute_capability_that_the_library_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(ExportError, match=r"'9\.0': it knows .*'8\.6', '8\.9', .*'12\.0'"):
        builder("tensorrt-rtx", BuildOptions(compute_capabilities=("9.0",)))
    for hidden in ("CURRENT", "SM89", "NONE", ""):
        with pytest.raises(ExportError, match="it knows"):
            builder("tensorrt-rtx", BuildOptions(compute_capabilities=(hidden,)))


def test_a_compute_capability_given_twice_is_refused() -> None:
    with pytest.raises(ExportError, match=r"'8\.9' is given twice"):
        builder("tensorrt-rtx", BuildOptions(compute_capabilities=("8.9", "8.9")))


def test_the_identity_and_the_engine_change_with_every_option() -> None:
    base = BuildOptions(weights="embedded")
    changed = {
        "compute_capabilities": replace(base, compute_capabilities=("8.9",)),
        "weights": replace(base, weights="shared"),
        "weight_streaming": replace(base, weight_streaming=True),
        "tf32": replace(base, tf32=True),
    }
    assert set(changed) == {field.name for field in fields(BuildOptions)}
    w = numbers((8, 8))
    seen = set()
    for options in (base, *changed.values()):
        made = builder("tensorrt-rtx", options)
        engine = made.build(layer(), (lambda _: w) if options.weights == "embedded" else None)
        seen.add((json.dumps(made.identity(), sort_keys=True), engine))
    assert len({identity for identity, _ in seen}) == 1 + len(changed)
    assert len({engine for _, engine in seen}) == 1 + len(changed)


def test_an_interrupt_while_an_engine_is_built_is_not_lost() -> None:
    def interrupted(name: str) -> np.ndarray:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return numbers((8, 8))

    with pytest.raises(KeyboardInterrupt):
        builder("tensorrt-rtx", EMBEDDED).build(layer(), interrupted)
    assert rtx(layer()), "and the next build is as ever"
