"""What a run gives, looked at: numbers that mean nothing are an error, not a picture.

A run that is good pays one look at its outputs. Only after one that is not are the calls played
once more, one by one, to find the stage at which it began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from keepstep.runtime.backends import Session
from keepstep.runtime.errors import ResultError
from keepstep.runtime.floats import DTYPES, count_not_finite
from keepstep.runtime.format.plan import Plan
from keepstep.runtime.quoting import quote


def check_results(
    plan: Plan,
    outputs: Mapping[str, np.ndarray],
    session: Session,
    calls: Sequence[int],
    rewind: Callable[[], None],
) -> None:
    """Refuse outputs of a run that are NaN or infinite.

    session, calls   what was played; it is played again where that is so
    rewind           writes the inputs once more, because a run may overwrite what it has read
    Raises `ResultError`.
    """
    for name, array in outputs.items():
        bad = count_not_finite(array, plan.values[name].type.dtype)
        if bad:
            rewind()
            raise ResultError(
                f"plan {quote(plan.name)}: {bad} of {array.size} elements of the output "
                f"{quote(name)} are NaN or infinite; {_origin(plan, session, calls)}: give "
                "smaller inputs or a LoRA a smaller scale, or export with --dtype bfloat16 or "
                "float32"
            )


def _origin(plan: Plan, session: Session, calls: Sequence[int]) -> str:
    """Where it begins: the first call that writes such numbers."""
    for index in calls:
        session.launch(index)
        session.wait()
        call = plan.calls[index]
        for tensor, binding in call.writes.items():
            type_ = plan.stages[call.stage].outputs[tensor]
            if type_.dtype not in DTYPES:
                continue
            array = session.read(binding.value)
            if binding.row is not None:
                array = array[binding.row : binding.row + type_.shape[0]]
            if count_not_finite(array, type_.dtype):
                return (
                    f"the first stage to give such numbers is {quote(call.stage)} "
                    f"(calls[{index}], {quote(tensor)})"
                )
    return "played once more, no stage gave such numbers"
