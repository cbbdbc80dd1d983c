"""Checks a bundle against the golden values that travel with it: stage by stage, then end to end.

A stage is checked by itself: it is launched where the plan first calls it, on golden inputs, so
that the first stage that departs is the one at fault and not one that was given something wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from keepstep.runtime import Bundle, InputError, Player, ResultError
from keepstep.runtime.backends import Session, backend
from keepstep.runtime.floats import widened
from keepstep.runtime.plan import Plan, Stage

from .values import put, rows, start_values

# Norm of the difference, relative to the norm of what is expected. In float32, compiled and eager
# kernels differ by rounding only, and the sampler amplifies it over 50 calls; a rounding to half
# precision is 5e-4 (float16) or 4e-3 (bfloat16), and tens of layers add theirs up.
TOLERANCES = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
# Which tokens are kept can hang on the last bit of a similarity, and the eager run itself departs
# by this much when its start noise moves by 1e-7 (docs/pruning.md, "Ties").
SELECTING = 5e-2


@dataclass(frozen=True)
class StageVerdict:
    """How far a stage's worst tensor is from its golden value."""

    stage: str
    call: int  # in `Plan.calls`
    tensor: str
    error: float
    tolerance: float

    @property
    def good(self) -> bool:
        """Whether it gives what the eager stage gave; false for NaN."""
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Verdict:
    """How far one plan, played on one backend, is from its golden values."""

    plan: str
    backend: str
    stages: tuple[StageVerdict, ...]  # in the order in which they run
    error: float | None  # of the latents after the whole run; None where no run was recorded
    tolerance: float  # of that

    @property
    def departing(self) -> StageVerdict | None:
        """The first stage that does not give what it must."""
        return next((stage for stage in self.stages if not stage.good), None)

    @property
    def good(self) -> bool:
        """Whether every stage, and the run, give what the eager ones gave; false for NaN."""
        return self.departing is None and (self.error is None or self.error <= self.tolerance)

    @property
    def sentence(self) -> str:
        """What was found, in one line."""
        if stage := self.departing:
            return (
                f"plan '{self.plan}' on {self.backend}: stage '{stage.stage}' departs from the "
                f"eager one: {stage.tensor} is off by {stage.error:.2g}, expected at most "
                f"{stage.tolerance:g}"
            )
        if not self.good:
            return (
                f"plan '{self.plan}' on {self.backend}: every stage gives what the eager one does, "
                f"but the whole run is off by {self.error:.2g}, expected at most {self.tolerance:g}"
            )
        return f"plan '{self.plan}' on {self.backend}: as the eager run"


def verify(bundle: Bundle, plan: str, backend_name: str = "onnxruntime") -> Verdict:
    """Launch every stage of `plan` on its golden inputs, then play the whole plan if that was
    recorded, and compare. Raises `InputError` where the bundle has no golden values."""
    golden = bundle.golden(plan)
    dtype = bundle.manifest.model.get("dtype", "float32")
    stages = tuple(_stages(bundle, bundle.plan(plan), golden, backend_name, TOLERANCES[dtype]))
    error = None
    if "outputs.latents" in golden:
        with bundle.player(plan, backend_name) as player:
            error = _error_of_run(player, golden)
    if not stages and error is None:
        raise InputError(
            f"bundle {bundle.path}: the golden values of plan '{plan}' hold neither calls nor "
            "outputs; export it again"
        )
    tolerance = max(TOLERANCES[dtype], *(_at_least(s) for s in bundle.plan(plan).stages.values()))
    return Verdict(plan, backend_name, stages, error, tolerance)


def _error_of_run(player: Player, golden: Mapping[str, np.ndarray]) -> float:
    """How far the latents of a whole run are off."""
    try:
        latents = player.run(golden_inputs(golden))["latents"]
    except ResultError:  # the stages tell which of them it is
        return math.nan
    return distance(latents, golden["outputs.latents"], "float32")


def recorded_calls(golden: Mapping[str, np.ndarray]) -> dict[int, dict[str, np.ndarray]]:
    """Index in `Plan.calls` → tensor → what it must be."""
    recorded: dict[int, dict[str, np.ndarray]] = {}
    for key, array in golden.items():
        if key.startswith("calls."):
            _, call, tensor = key.split(".", 2)
            recorded.setdefault(int(call), {})[tensor] = array
    return dict(sorted(recorded.items()))


def golden_inputs(golden: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The plan's inputs among its golden values."""
    begin = "inputs."
    return {key.removeprefix(begin): golden[key] for key in golden if key.startswith(begin)}


def _stages(
    bundle: Bundle, plan: Plan, golden: Mapping[str, np.ndarray], name: str, tolerance: float
) -> list[StageVerdict]:
    """Every recorded call, launched by itself."""
    recorded = recorded_calls(golden)
    if not recorded:
        return []
    session = backend(name).open(bundle, plan, None)
    try:
        values = start_values(plan, golden_inputs(golden))
        return [
            _stage(session, plan, i, expected, values, tolerance)
            for i, expected in recorded.items()
        ]
    finally:
        session.close()


def _stage(
    session: Session,
    plan: Plan,
    i: int,
    expected: Mapping[str, np.ndarray],
    values: dict[str, np.ndarray],
    tolerance: float,
) -> StageVerdict:
    """Launch call `i` on golden values."""
    call = plan.calls[i]
    stage = plan.stages[call.stage]
    for binding in call.reads.values():
        if binding.value in values:
            session.write(binding.value, values[binding.value])
    session.launch(i)
    session.wait()
    errors = {
        tensor: distance(
            rows(session.read(binding.value), binding, stage.outputs[tensor]),
            expected[tensor],
            stage.outputs[tensor].dtype,
        )
        for tensor, binding in call.writes.items()
    }
    put(plan, i, expected, values)
    worst = max(errors, key=lambda tensor: (errors[tensor] != errors[tensor], errors[tensor]))
    return StageVerdict(call.stage, i, worst, errors[worst], max(tolerance, _at_least(stage)))


def _at_least(stage: Stage) -> float:
    """The tolerance that a stage needs in any dtype."""
    return SELECTING if "score_weights" in stage.inputs else 0.0


def distance(found: np.ndarray, expected: np.ndarray, dtype: str) -> float:
    """Norm of the difference relative to the norm of what is expected; NaN if that is not finite.

    Pictures (uint8) may differ by one level anywhere: rounding can fall on either side.
    """
    if dtype in ("float16", "bfloat16"):
        found, expected = widened(found, dtype), widened(expected, dtype)
    a, b = found.astype(np.float64), expected.astype(np.float64)
    if dtype == "uint8":
        a = np.where(np.abs(a - b) <= 1, b, a)
    norm = float(np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / (norm or 1.0)
