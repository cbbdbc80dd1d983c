"""One call of a plan by itself: what it reads, for what runs its stage outside of the plan."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keepstep.runtime import Bundle
from keepstep.runtime.backends import backend
from keepstep.runtime.format.plan import Plan
from keepstep.runtime.memory.constants import constant_part, host_array

from .values import rows
from .verify import walk


def call_inputs(
    bundle: Bundle,
    plan: Plan,
    golden: Mapping[str, np.ndarray],
    index: int,
    backend_name: str = "onnxruntime",
) -> dict[str, np.ndarray]:
    """Tensor → array of what the call `index` reads; it is one of those that are recorded.

    Arrays have the shapes of the stage's inputs; bfloat16 comes as uint16. They are what `walk`
    gives the call: what was recorded of earlier calls, and what `backend_name` made of the rest.
    Raises `BackendError` where that backend cannot play the plan.
    """
    call = plan.calls[index]
    types = plan.stages[call.stage].inputs
    session = backend(backend_name).open(bundle, plan, None)
    try:
        values = next(values for i, values, _ in walk(plan, golden, session) if i == index)
    finally:
        session.close()
    return {
        tensor: rows(values[binding.value], binding, types[tensor])
        if binding.value in values
        else host_array(bundle, plan, constant_part(binding, types[tensor]))
        for tensor, binding in call.reads.items()
    }
