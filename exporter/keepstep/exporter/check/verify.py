"""Checks a bundle against the golden values that travel with it: call by call, then as a whole.

Every recorded call is launched on what the eager run gave before it, not on what the plan itself
gave: so nothing adds up, the tolerance of one call serves for all of them, and the first
mismatch is the one at fault. What is not recorded (cached features) is the plan's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from keepstep.runtime import Bundle, InputError, ResultError
from keepstep.runtime.backends import Session, backend
from keepstep.runtime.floats import widened
from keepstep.runtime.format.plan import Plan

from ..methods import SELECTION
from .selection_check import Finding, Marks, compare, judge, miscounted
from .values import put, rows, start_values
from .verdict import CallVerdict, RunVerdict, Verdict, badness

Tensors = Mapping[str, np.ndarray]

# Norm of the difference, relative to the norm of what is expected. In float32, compiled and eager
# kernels differ by rounding only: some 3e-6, and ten times that at the last steps of a trained
# model, which tell little noise from a picture. A rounding to half precision is 5e-4 (float16) or
# 4e-3 (bfloat16), and tens of layers add theirs up.
ONE_CALL = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
# The sampler passes on the error of each of some fifty calls, and amplifies it.
WHOLE_RUN = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
# Of a call that attended to other tokens than the eager one, where rounding decides which, if
# there is no model to be asked what that gives: each copies from one that is as similar.
SELECTING = 5e-2


class Eager(Protocol):
    """What is known of one call, made eagerly with the selections that a plan made."""

    @property
    def prediction(self) -> np.ndarray:
        """What it gives."""

    @property
    def margins(self) -> Tensors:
        """Tensor → (2, b, N), how well founded these selections are: `pruning.marks.Slack`."""


class Model(Protocol):
    """Makes calls of the recorded run of a plan again, with selections that it is told."""

    def __call__(
        self, plan: Plan, recorded: Mapping[int, np.ndarray], told: Mapping[int, Marks]
    ) -> Mapping[int, Eager]:
        """The calls in `told`, all given the `recorded` predictions of those before them."""


def verify(
    bundle: Bundle, plan: str, backend_name: str = "onnxruntime", model: Model | None = None
) -> Verdict:
    """Launch every recorded call of `plan`, then play it if a whole run was recorded.

    With the `model` at hand, calls whose selections hang on ties are held as tightly as the rest.
    Raises `InputError` where the bundle has no golden values.
    """
    golden, loaded = bundle.golden(plan), bundle.plan(plan)
    dtype = bundle.manifest.model.get("dtype", "float32")
    calls = _calls(bundle, loaded, golden, backend_name, dtype, model)
    run = None
    if "outputs.latents" in golden:
        run = _run(bundle, loaded, golden, backend_name, dtype)
    if not calls and run is None:
        raise InputError(
            f"bundle {bundle.path}: the golden values of plan '{plan}' hold neither calls nor "
            "outputs; export it again"
        )
    return Verdict(plan, backend_name, calls, run)


def recorded_inputs(golden: Tensors) -> dict[str, np.ndarray]:
    """The plan's inputs among its golden values."""
    begin = "inputs."
    return {key.removeprefix(begin): golden[key] for key in golden if key.startswith(begin)}


def recorded_calls(plan: Plan, golden: Tensors) -> dict[int, dict[str, np.ndarray]]:
    """Index in `Plan.calls` → tensor → what it must be, in order."""
    recorded = _of_calls("calls", golden)
    for i, call in enumerate(plan.calls):
        for tensor, binding in call.writes.items():
            if (key := f"outputs.{binding.value}") in golden:
                recorded.setdefault(i, {})[tensor] = golden[key]
    return dict(sorted(recorded.items()))


def recorded_margins(golden: Tensors) -> dict[int, dict[str, np.ndarray]]:
    """Index in `Plan.calls` → tensor → by what margin its selection was made."""
    return _of_calls("margins", golden)


def walk(
    plan: Plan, golden: Tensors, session: Session
) -> Iterator[tuple[int, dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Every recorded call with the values that it is given, and what it gives.

    Then it has given what was recorded, and its own where nothing was. Calls that do not run the
    network are launched in any case: others go on from what they give.
    """
    values = start_values(plan, recorded_inputs(golden))
    recorded = recorded_calls(plan, golden)
    for i, call in enumerate(plan.calls):
        if i not in recorded and call.step is not None:
            continue
        expected = recorded.get(i, {})
        for name in {b.value for b in call.reads.values()} & values.keys():
            session.write(name, values[name])
        session.launch(i)
        session.wait()
        outputs = plan.stages[call.stage].outputs
        found = {t: rows(session.read(b.value), b, outputs[t]) for t, b in call.writes.items()}
        if i in recorded:
            yield i, values, found
        put(plan, i, {**found, **expected}, values)


def judged(
    plan: Plan,
    i: int,
    found: Tensors,
    expected: Tensors,
    margins: Tensors,
    dtype: str,
    untouched: bool,
) -> CallVerdict:
    """What call `i` gave beside what was recorded of it, with the margins of its selections.

    untouched   whether it was given what the eager call was given, ties of earlier calls included
    """
    finding = compare(found, marks_in(expected), margins, dtype, untouched)
    loose = finding.undecided or not untouched
    return _verdict(plan, i, found, expected, dtype, finding, SELECTING if loose else 0.0)


def marks_in(tensors: Tensors) -> Marks:
    """Those of a call's tensors that are the marks of a selection."""
    return {name: array for name, array in tensors.items() if name.startswith(SELECTION)}


def distance(found: np.ndarray, expected: np.ndarray, dtype: str) -> float:
    """Norm of the difference relative to the norm of what is expected; NaN if that is not finite.

    Of pictures (uint8), the mean difference as a share of the range: rounding to levels hides how
    far one pixel is off, but as many fall on the other side of a level as all are off.
    """
    if dtype in ("float16", "bfloat16"):
        found, expected = widened(found, dtype), widened(expected, dtype)
    a, b = found.astype(np.float64), expected.astype(np.float64)
    if dtype == "uint8":
        return float(np.abs(a - b).mean()) / 255
    norm = float(np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / (norm or 1.0)


def _calls(
    bundle: Bundle, plan: Plan, golden: Tensors, name: str, dtype: str, model: Model | None
) -> tuple[CallVerdict, ...]:
    """Every recorded call, in order."""
    recorded, margins = recorded_calls(plan, golden), recorded_margins(golden)
    verdicts: dict[int, CallVerdict] = {}
    asked: dict[int, Tensors] = {}  # calls that the model is to make again
    touched: set[str] = set()  # values in which an earlier tie goes on
    session = backend(name).open(bundle, plan, None)
    try:
        for i, _, found in walk(plan, golden, session):
            marks = marks_in(recorded[i])
            untouched = not touched & {b.value for b in plan.calls[i].reads.values()}
            same = untouched and all(np.array_equal(found[t], marks[t]) for t in marks)
            own = {b.value for t, b in plan.calls[i].writes.items() if t not in recorded[i]}
            touched = touched - own if same else touched | own
            if same or model is None or miscounted(found, marks):
                known = margins.get(i, {})
                verdicts[i] = judged(plan, i, found, recorded[i], known, dtype, untouched)
            else:
                asked[i] = {t: found[t] for t in recorded[i]}
    finally:
        session.close()
    if model and asked:
        predictions = {i: r["prediction"] for i, r in recorded.items() if "prediction" in r}
        eager = model(plan, predictions, {i: marks_in(found) for i, found in asked.items()})
        for i, given in asked.items():
            marks = marks_in(recorded[i])
            finding = judge(marks_in(given), marks, eager[i].margins, dtype)
            expected = {"prediction": eager[i].prediction}
            verdicts[i] = _verdict(plan, i, given, expected, dtype, finding)
    return tuple(verdict for _, verdict in sorted(verdicts.items()))


def _verdict(
    plan: Plan,
    i: int,
    found: Tensors,
    expected: Tensors,
    dtype: str,
    finding: Finding,
    at_least: float = 0.0,
) -> CallVerdict:
    call = plan.calls[i]
    types = plan.stages[call.stage].outputs
    verdicts = []
    for tensor, array in expected.items():
        if tensor.startswith(SELECTION):
            continue
        error = distance(found[tensor], array, types[tensor].dtype)
        # The sampler's sum depends on no weight, and is float32 whatever the dtype.
        summed = call.writes[tensor].value == "latents"
        tolerance = ONE_CALL["float32"] if summed else max(ONE_CALL[dtype], at_least)
        told = (finding.undecided, finding.tokens, finding.fault)
        verdicts.append(CallVerdict(call.stage, i, tensor, error, tolerance, *told))
    return max(verdicts, key=badness)


def _run(bundle: Bundle, plan: Plan, golden: Tensors, name: str, dtype: str) -> RunVerdict:
    """The plan as it is played, beside its calls one by one and beside the eager run."""
    selects = any(t.startswith(SELECTION) for s in plan.stages.values() for t in s.outputs)
    tolerances = (None if selects else WHOLE_RUN[dtype], ONE_CALL[dtype])
    inputs = recorded_inputs(golden)
    try:
        with bundle.player(plan.name, name) as player:
            played = player.run(inputs)
            stepped = player.run(inputs, progress=lambda done, total, call: None)
    except ResultError:  # NaN or infinity; the calls tell which of them it is
        return RunVerdict(math.nan, tolerances[0], math.nan, tolerances[1])
    return RunVerdict(
        error=distance(played["latents"], golden["outputs.latents"], "float32"),
        tolerance=tolerances[0],
        replayed=max(distance(played[n], a, plan.values[n].type.dtype) for n, a in stepped.items()),
        replayed_tolerance=tolerances[1],
    )


def _of_calls(kind: str, golden: Tensors) -> dict[int, dict[str, np.ndarray]]:
    """Index in `Plan.calls` → tensor → the golden value of this kind."""
    found: dict[int, dict[str, np.ndarray]] = {}
    for key, array in golden.items():
        if key.startswith(f"{kind}."):
            _, call, tensor = key.split(".", 2)
            found.setdefault(int(call), {})[tensor] = array
    return found
