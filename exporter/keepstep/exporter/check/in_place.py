"""Whether an engine keeps the promise of its stage's `in_place`: an engine that does not is refused
when the bundle is made.

ONNX Runtime knows nothing of the promise. It writes an output when its node runs, and where that is
an input's memory a later node may still want to read what was there. Which node runs first is the
library's choice, so nothing but a run tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keepstep.runtime import Bundle
from keepstep.runtime.folder.tensors import numpy_dtype
from keepstep.runtime.format.plan import Stage, TensorType
from keepstep.runtime.memory.constants import ConstantPart, host_array
from keepstep.runtime.quoting import quote

from ..errors import ExportError
from .one_call import call_inputs

BACKEND = "onnxruntime"
Arrays = Mapping[str, np.ndarray]


def check_promises(bundle: Bundle) -> None:
    """Every stage of a bundle that promises something, by the values of its first call.

    Raises `ExportError`; the bundle has golden values, and engines for ONNX Runtime.
    """
    seen: set[str] = set()
    for name in bundle.plans:
        plan = bundle.plan(name)
        for index, call in enumerate(plan.calls):
            stage = plan.stages[call.stage]
            engine = stage.engines[BACKEND]
            if not stage.in_place or engine in seen:
                continue
            seen.add(engine)
            inputs = call_inputs(bundle, plan, bundle.golden(name), index)
            weights = {
                tensor: (plan.values[v].type, host_array(bundle, plan, ConstantPart(v)))
                for tensor, v in stage.weights.items()
            }
            check_in_place(call.stage, stage, bundle.read(engine), inputs, weights)


def check_in_place(
    name: str,
    stage: Stage,
    engine: bytes,
    inputs: Arrays,
    weights: Mapping[str, tuple[TensorType, np.ndarray]] | None = None,
) -> None:
    """Run the engine with memory of its own for every output, then as the stage promises; compare.

    name      of the stage, for the message
    engine    an ONNX file for ONNX Runtime
    inputs    an array for every input, with numbers that differ: zeros hide what is overwritten
    weights   type and array of every weight that is handed over; bfloat16 as uint16 everywhere

    Raises `ExportError` where any bit of any output differs.
    """
    if not stage.in_place:
        return
    session = _session(engine, weights or {})
    apart = _outputs(session, stage, inputs, {})
    together = _outputs(session, stage, inputs, stage.in_place)
    for tensor, expected in apart.items():
        bits = f"V{expected.itemsize}"  # NaN is itself, and zeros have signs
        differ = int(np.count_nonzero(together[tensor].view(bits) != expected.view(bits)))
        if differ:
            pairs = ", ".join(f"{quote(o)} in {quote(i)}" for o, i in stage.in_place.items())
            raise ExportError(
                f"stage {quote(name)}: played in place ({pairs}), {differ} of {expected.size} "
                f"elements of {quote(tensor)} are other than with memory of its own, expected "
                "none: the engine reads an input after the output in its place is written; have "
                "the graph read that output instead, or take the pair out of the stage's in_place"
            )


def _session(engine: bytes, weights: Mapping[str, tuple[TensorType, np.ndarray]]) -> Any:
    import onnxruntime as ort

    from keepstep.runtime.backends.onnxruntime_engine import session_options

    providers = ["CPUExecutionProvider"]
    return ort.InferenceSession(engine, session_options(weights), providers=providers)


def _outputs(
    session: Any, stage: Stage, inputs: Arrays, in_place: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """What one launch gives; outputs `in_place` are in the memory of a copy of their input."""
    from keepstep.runtime.backends.onnxruntime_engine import bound

    read = {tensor: np.array(inputs[tensor], order="C") for tensor in stage.inputs}
    written = {
        tensor: read[in_place[tensor]]
        if tensor in in_place
        else np.zeros(type_.shape, numpy_dtype(type_.dtype))
        for tensor, type_ in stage.outputs.items()
    }
    addresses = {tensor: array.ctypes.data for tensor, array in {**read, **written}.items()}
    session.run_with_iobinding(bound(session, stage, addresses, "cpu"))
    return written
