"""The smallest change of precision that lets a call match that does not.

Tried on the stage's own ONNX file with ONNX Runtime: kinds of operations are put into float32,
the cheapest kind first, until the golden values come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from keepstep.runtime import Bundle
from keepstep.runtime.format.plan import Plan

from .one_call import call_inputs
from .verdict import Verdict
from .verify import SELECTING, judged, recorded_calls, recorded_margins

# Kinds of operations, the cheapest to have in float32 first; names are those of `--float32`.
KINDS = ("attention", "linear", "convolution")


def precision_fallback(bundle: Bundle, verdict: Verdict) -> tuple[str, ...] | None:
    """Kinds of operations that end the first mismatch when in float32; None if none do.

    Only float16 is tried: it is what overflows, and what ONNX Runtime has kernels for.
    """
    call = verdict.mismatch
    if call is None or bundle.manifest.model.get("dtype") != "float16":
        return None
    plan = bundle.plan(verdict.plan)
    engine = plan.stages[call.stage].engines.get("onnxruntime")
    if engine is None:
        return None
    golden = bundle.golden(plan.name)
    feeds = call_inputs(bundle, plan, golden, call.call)
    expected = recorded_calls(plan, golden)[call.call]
    margins = recorded_margins(golden).get(call.call, {})
    outputs = [*plan.stages[call.stage].outputs]
    for kinds in (*((kind,) for kind in KINDS), KINDS):
        model = ir.load(bundle.file(engine))
        widen(model, kinds)
        found = _session(bundle, plan, call.stage, model).run(outputs, feeds)
        untouched = call.tolerance < SELECTING  # by ties of earlier calls
        given = dict(zip(outputs, found, strict=True))
        if judged(plan, call.call, given, expected, margins, "float16", untouched).good:
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


def _session(bundle: Bundle, plan: Plan, stage: str, model: ir.Model) -> Any:
    import onnxruntime as ort

    from keepstep.runtime.backends.onnxruntime_engine import session_options, stage_weights

    options = session_options(stage_weights(bundle, plan, stage))
    data = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
