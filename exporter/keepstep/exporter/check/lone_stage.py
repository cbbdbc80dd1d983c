"""A stage taken out of a bundle: its ONNX code with its weights, and its first call's values.

Other tools can then run, compare and cut it down without knowing anything of plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from keepstep.runtime import Bundle, InputError
from keepstep.runtime.format.plan import Plan, Stage
from keepstep.runtime.memory.constants import ConstantPart, host_array
from keepstep.runtime.quoting import did_you_mean, quote, quote_names

from .one_call import call_inputs
from .verify import ONE_CALL, recorded_calls

ENGINES = "onnxruntime"  # whose engines are ONNX code
PLAYERS = ("onnxruntime", "onnxruntime-cuda")  # backends that play them


@dataclass(frozen=True)
class LoneStage:
    """A stage of a plan and one call of it, with no plan around them."""

    plan: str
    name: str
    call: int  # in `Plan.calls`: the stage's first
    model: ir.Model  # weights are initializers
    signature: Stage
    inputs: Mapping[str, np.ndarray]  # every tensor that the call reads
    outputs: Mapping[str, np.ndarray]  # those tensors that were recorded of it

    @property
    def tolerance(self) -> float:
        """How far an output may be off, relative to its largest number: as `verify` judges it."""
        dtypes = {
            t.dtype for t in (*self.signature.inputs.values(), *self.signature.outputs.values())
        }
        half = "float16" in dtypes or any(
            value.dtype == ir.DataType.FLOAT16 for value in self.model.graph.initializers.values()
        )
        return ONE_CALL["float16" if half else "float32"]


def lone_stage(bundle: Bundle, plan_name: str, name: str, backend_name: str = ENGINES) -> LoneStage:
    """Take the stage `name` out of a plan, with the values of its first call.

    The calls before it are played with `backend_name` as far as they were not recorded.
    Raises `InputError` for a stage, plan or backend that is not there or has no ONNX code, where
    golden values of the call are missing, and for bfloat16, which numpy's files do not have.
    """
    if backend_name not in PLAYERS:
        raise InputError(
            f"backend {quote(backend_name)} has no ONNX code to take out: choose one of "
            f"{quote_names(PLAYERS)}"
        )
    plan = bundle.plan(plan_name)
    signature = plan.stages.get(name)
    if signature is None:
        raise InputError(
            f"plan {quote(plan_name)} has no stage "
            f"{quote(name)}{did_you_mean(name, plan.stages)}; its stages: "
            f"{quote_names(plan.stages)}"
        )
    if ENGINES not in signature.engines:
        raise InputError(
            f"stage {quote(name)} has engines for {quote_names(signature.engines)} only, and "
            f"those are compiled code: export the bundle again with --backend {ENGINES}, too"
        )
    in_bfloat16 = [
        tensor
        for tensor, type_ in {**signature.inputs, **signature.outputs}.items()
        if type_.dtype == "bfloat16"
    ]
    if in_bfloat16:
        raise InputError(
            f"stage {quote(name)}: {quote_names(in_bfloat16)} are bfloat16, which numpy does not "
            "have: export the bundle with --dtype float16 or float32 for this"
        )
    call, golden = _first_call(plan, name), bundle.golden(plan_name)
    recorded = recorded_calls(plan, golden).get(call)
    if not recorded:
        raise InputError(
            f"bundle {bundle.path}: the golden values of plan {quote(plan_name)} do not hold the "
            f"first call of stage {quote(name)} (calls[{call}]): export it again, without "
            "--verify none"
        )
    inputs = call_inputs(bundle, plan, golden, call, backend_name)
    return LoneStage(plan_name, name, call, _model(bundle, plan, name), signature, inputs, recorded)


def _first_call(plan: Plan, stage: str) -> int:
    """Rule 11: every stage is called at least once."""
    return next(i for i, call in enumerate(plan.calls) if call.stage == stage)


def _model(bundle: Bundle, plan: Plan, stage: str) -> ir.Model:
    """The stage's ONNX code, with weights that are mapped from the bundle."""
    code = bundle.read(plan.stages[stage].engines[ENGINES])
    model = ir.from_proto(onnx.load_model_from_string(code))
    for name, value in plan.stages[stage].weights.items():
        array = host_array(bundle, plan, ConstantPart(value))
        bfloat16 = plan.values[value].type.dtype == "bfloat16"  # held as the uint16 of its bits
        dtype = ir.DataType.BFLOAT16 if bfloat16 else None
        model.graph.initializers[name].const_value = ir.Tensor(array, dtype=dtype, name=name)
    return model
