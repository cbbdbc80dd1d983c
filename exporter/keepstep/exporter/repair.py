"""The smallest change of precision that lets a departing stage give what it must.

Tried on the stage's own ONNX file with ONNX Runtime: kinds of operations are put into float32,
the cheapest kind first, until the golden values come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from keepstep.runtime import Bundle
from keepstep.runtime.constants import constant_part, host_array
from keepstep.runtime.plan import Plan

from .values import put, rows, start_values
from .verify import StageVerdict, Verdict, distance, golden_inputs, recorded_calls

# Kinds of operations, the cheapest to have in float32 first; names are those of `--float32`.
KINDS = ("attention", "linear", "convolution")


def repair(bundle: Bundle, verdict: Verdict) -> tuple[str, ...] | None:
    """Kinds of operations that repair the first departing stage in float32; None if none do.

    Only float16 is tried: it is what overflows, and what ONNX Runtime has kernels for.
    """
    stage = verdict.departing
    if stage is None or bundle.manifest.model.get("dtype") != "float16":
        return None
    plan = bundle.plan(verdict.plan)
    engine = plan.stages[stage.stage].engines.get("onnxruntime")
    if engine is None:
        return None
    for kinds in (*((kind,) for kind in KINDS), KINDS):
        model = ir.load(bundle.file(engine))
        widen(model, kinds)
        if _error(bundle, plan, stage, model) <= stage.tolerance:
            return kinds
    return None


def widen(model: ir.Model, kinds: Sequence[str]) -> None:
    """Put all operations of `kinds` into float32, with casts around them."""
    half = ir.DataType.FLOAT16
    for node in list(model.graph):
        if _kind(node) not in kinds:
            continue
        for i, value in enumerate(node.inputs):
            if value is not None and value.dtype == half:
                cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)})
                model.graph.insert_before(node, cast)
                node.replace_input_with(i, cast.outputs[0])
        for value in list(node.outputs):
            if value.dtype == half:
                uses = tuple(value.uses())
                value.dtype = ir.DataType.FLOAT
                cast = ir.node("Cast", [value], {"to": int(half)})
                cast.outputs[0].dtype = half
                model.graph.insert_after(node, cast)
                for user, i in uses:
                    user.replace_input_with(i, cast.outputs[0])
                for i, output in enumerate(model.graph.outputs):
                    if output is value:
                        cast.outputs[0].name, value.name = value.name, f"{value.name}:float32"
                        cast.outputs[0].shape = value.shape
                        model.graph.outputs[i] = cast.outputs[0]


def _kind(node: ir.Node) -> str | None:
    if node.op_type == "Conv":
        return "convolution"
    if node.op_type in ("MultiHeadAttention", "Softmax"):
        return "attention"
    if node.op_type in ("MatMul", "Gemm"):
        weighted = any(v is not None and v.is_initializer() for v in node.inputs)
        return "linear" if weighted else "attention"
    return None


def _error(bundle: Bundle, plan: Plan, stage: StageVerdict, model: ir.Model) -> float:
    """Of the departing tensor, when `model` runs in place of the stage's engine."""
    golden = bundle.golden(plan.name)
    values = start_values(plan, golden_inputs(golden))
    recorded = recorded_calls(golden)
    for i, expected in recorded.items():
        if i < stage.call:
            put(plan, i, expected, values)
    call, signature = plan.calls[stage.call], plan.stages[stage.stage]
    feeds: dict[str, np.ndarray] = {}
    for tensor, binding in call.reads.items():
        type_ = signature.inputs[tensor]
        feeds[tensor] = (
            rows(values[binding.value], binding, type_)
            if binding.value in values
            else host_array(bundle, plan, constant_part(binding, type_))
        )
    session = _session(bundle, plan, stage.stage, model)
    (found,) = session.run([stage.tensor], feeds)
    wanted = recorded[stage.call][stage.tensor]
    return distance(found, wanted, signature.outputs[stage.tensor].dtype)


def _session(bundle: Bundle, plan: Plan, stage: str, model: ir.Model) -> Any:
    import onnxruntime as ort

    from keepstep.runtime.backends.onnxruntime_engine import session_options, stage_weights

    options = session_options(stage_weights(bundle, plan, stage))
    data = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
