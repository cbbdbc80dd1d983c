"""From a schedule and its compiled stages to a plan: values, calls, and where everything lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

from keepstep.runtime.format.plan import (
    Binding,
    Call,
    Plan,
    Stage,
    Step,
    TensorType,
    Value,
    ValueKind,
)

from ..schedule import schema as scheduling
from ..schedule.sampler import LoweredSampler
from .memory import lifetimes, plan_memory

OUTPUTS = ("latents", "image")


@dataclass(frozen=True)
class NetworkCall:
    """A call of the sampler that runs: which stage, and what it was told."""

    step: int  # index among all calls of the sampler
    stage: str
    score_weights: tuple[float, float] | None  # γ and α of its token scores


@dataclass(frozen=True)
class Program:
    """All that a plan is made of.

    `stages` has `text`, `prompt`, `decode`, every network stage by name, and `encode` for a run
    that starts from an image. `tables` maps what the network derives from the timestep to an
    array with as many rows a call as it takes, and `weights` has the type of every weight.
    `ranges` has the lowest and the highest number of the inputs that cannot hold any.
    """

    name: str
    stages: Mapping[str, Stage]
    calls: Sequence[NetworkCall]
    sampler: LoweredSampler  # skips folded
    steps: Sequence[Step]
    tables: Mapping[str, np.ndarray]
    weights: Mapping[str, TensorType]
    ranges: Mapping[str, tuple[float, float]]


def score_weights(call: scheduling.Call, run: int) -> tuple[float, float] | None:
    """γ and α of the run-th network call; γ waits until two predictions exist."""
    if call.prune is None:
        return None
    return (call.prune.gamma if run >= 2 else 0.0, call.prune.alpha)


def build_plan(
    program: Program, constants_file: str, weights_file: str
) -> tuple[Plan, dict[str, np.ndarray]]:
    """The plan, and the arrays that belong in its constants file."""
    calls = _calls(program)
    constants = _constants(program)
    values = {
        name: Value(
            "constant",
            TensorType(str(array.dtype), array.shape),
            file=constants_file,
            tensor=name,
        )
        for name, array in constants.items()
    }
    for stage in program.stages.values():
        for name in stage.weights.values():
            tensor_type = program.weights[name]
            values[name] = Value("constant", tensor_type, file=weights_file, tensor=name)
    values |= _buffers(program, calls)
    arena = plan_memory(lifetimes(values, calls))
    placed = {
        name: replace(value, offset=arena.offsets[name]) if name in arena.offsets else value
        for name, value in values.items()
    }
    plan = Plan(
        name=program.name,
        values=placed,
        stages=program.stages,
        calls=tuple(calls),
        steps=tuple(program.steps),
        arena_bytes=arena.bytes,
    )
    return plan, constants


def _calls(program: Program) -> list[Call]:
    """Text, prompt, the image's latents, one launch for each network call, decode."""
    runs = len(program.calls)
    calls = [_launch(program, "text", {}, {}), _launch(program, "prompt", {}, {})]
    if program.sampler.from_image:  # the image is prediction −1: behind the oldest one
        calls.append(_launch(program, "encode", {}, {"latents": Binding("history", runs)}))
    for run, call in enumerate(program.calls):
        # Predictions are stored downwards, so that the window of earlier ones begins behind
        # the row that this call writes (docs/plan-format.md, "The history grows downwards").
        reads = {"history": Binding("history", runs - run), "coef": Binding("coef", run)}
        for name, table in program.tables.items():
            reads[name] = Binding(name, run * (len(table) // runs))
        reads["score_weights"] = Binding("score_weights", run)
        reads["selection_noise"] = Binding("selection_noise", run)
        writes = {"prediction": Binding("history", runs - run - 1)}
        calls.append(replace(_launch(program, call.stage, reads, writes), step=call.step))
    last = {"history": Binding("history", 0), "coef": Binding("coef", runs)}
    calls.append(_launch(program, "decode", last, {}))
    return calls


def _launch(
    program: Program, stage: str, reads: Mapping[str, Binding], writes: Mapping[str, Binding]
) -> Call:
    """A call that binds each tensor as told, or else to the value of the same name."""
    signature = program.stages[stage]
    return Call(
        stage=stage,
        reads={name: reads.get(name, Binding(name)) for name in signature.inputs},
        writes={name: writes.get(name, Binding(name)) for name in signature.outputs},
    )


def _constants(program: Program) -> dict[str, np.ndarray]:
    """Coefficients, score weights and the timestep tables that some stage reads."""
    runs = len(program.calls)
    window = program.stages["decode"].inputs["history"].shape[0]
    coef = np.zeros((runs + 1, 1 + window), np.float32)
    rows = [*program.sampler.inputs, program.sampler.result]
    for run, row in enumerate(rows):
        coef[run, 0] = row[0]
        known = program.sampler.starts + run  # of the basis, before this call
        coef[run, 1:known] = row[known - 1 : 0 : -1]  # the newest prediction first
    constants = {"coef": coef}
    read = {name for stage in program.stages.values() for name in stage.inputs}
    if "score_weights" in read:
        weights = [call.score_weights or (0.0, 0.0) for call in program.calls]
        constants["score_weights"] = np.array(weights, np.float32)
    dtypes = {n: t.dtype for stage in program.stages.values() for n, t in stage.inputs.items()}
    return constants | {
        name: table.astype(_numpy(dtypes[name]))
        for name, table in program.tables.items()
        if name in read
    }


def _numpy(dtype: str) -> np.dtype[Any]:
    """numpy has no bfloat16 of its own."""
    return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def _buffers(program: Program, calls: Sequence[Call]) -> dict[str, Value]:
    """Everything that lives in the arena, still without an offset."""
    runs = len(program.calls)
    buffers: dict[str, Value] = {}
    written = {binding.value for call in calls for binding in call.writes.values()}
    for call in calls:
        stage = program.stages[call.stage]
        bindings = [(stage.inputs[t], b) for t, b in call.reads.items()]
        bindings += [(stage.outputs[t], b) for t, b in call.writes.items()]
        for tensor, binding in bindings:
            name = binding.value
            if name in buffers or name in program.tables or name in ("coef", "score_weights"):
                continue
            shape = tensor.shape
            if name == "history":
                window = program.stages["decode"].inputs["history"].shape
                shape = (runs + window[0], *window[1:])
            elif name == "selection_noise":
                shape = (runs, *shape[1:])
            kind = _kind(name, name in written)
            feed = name in program.stages["text"].outputs
            type_ = TensorType(tensor.dtype, shape)
            buffers[name] = Value(kind, type_, feed=feed, range=program.ranges.get(name))
    return buffers


def _kind(name: str, written: bool) -> ValueKind:
    """What no call writes, the caller gives."""
    if name == "history":
        return "state"
    if not written:
        return "input"
    return "output" if name in OUTPUTS else "scratch"
