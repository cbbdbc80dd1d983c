"""From launches and how their stages' tensors are bound, to a plan: values, calls, and where
everything lies. What the stages do is not asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

from keepstep.runtime.format.plan import (
    Binding,
    Call,
    Default,
    Plan,
    Stage,
    Step,
    TensorType,
    Value,
)

from ..methods.port import Port
from .memory import lifetimes, plan_memory


@dataclass(frozen=True)
class Launch:
    """A stage is launched once.

    run    how many calls of the network ran before it
    step   index among all calls of the sampler, if it is one
    """

    stage: str
    run: int
    step: int | None = None


@dataclass(frozen=True)
class Program:
    """All that a plan is made of.

    stages      by name
    ports       stage → tensor → how it is bound
    launches    in order
    runs        R: how many calls of the network there are
    constants   arrays; those that no stage reads are left out
    weights     type of every weight that a stage takes
    ranges      the lowest and the highest number of the inputs that cannot hold any
    defaults    what inputs hold that the caller leaves out
    """

    name: str
    stages: Mapping[str, Stage]
    ports: Mapping[str, Mapping[str, Port]]
    launches: Sequence[Launch]
    runs: int
    steps: Sequence[Step]
    constants: Mapping[str, np.ndarray]
    weights: Mapping[str, TensorType]
    ranges: Mapping[str, tuple[float, float]]
    defaults: Mapping[str, Default]


def build_plan(
    program: Program, constants_file: str, weights_file: str
) -> tuple[Plan, dict[str, np.ndarray]]:
    """The plan, and the arrays that belong in its constants file."""
    stages = {
        name: replace(stage, in_place=_in_place(stage, program.ports[name]))
        for name, stage in program.stages.items()
    }
    calls = [_call(program, launch) for launch in program.launches]
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
        stages=stages,
        calls=tuple(calls),
        steps=tuple(program.steps),
        arena_bytes=arena.bytes,
    )
    return plan, constants


def _in_place(stage: Stage, ports: Mapping[str, Port]) -> dict[str, str]:
    """The outputs that are in the memory of an input, as both are the same whole value."""
    whole = {ports[name].value: name for name in stage.inputs if ports[name].rows == "whole"}
    written = {name: ports[name] for name in stage.outputs if ports[name].rows == "whole"}
    return {name: whole[port.value] for name, port in written.items() if port.value in whole}


def _call(program: Program, launch: Launch) -> Call:
    """The launch, each tensor of its stage bound as its port says."""
    signature, ports = program.stages[launch.stage], program.ports[launch.stage]

    def bound(tensors: Mapping[str, TensorType]) -> dict[str, Binding]:
        return {n: _binding(ports[n], t, launch.run, program.runs) for n, t in tensors.items()}

    return Call(launch.stage, bound(signature.inputs), bound(signature.outputs), launch.step)


def _binding(port: Port, tensor: TensorType, run: int, runs: int) -> Binding:
    """Predictions are stored downwards, so that the window of earlier ones begins behind the row
    that a call writes (docs/plan-format.md, "The history grows downwards")."""
    if port.rows == "whole":
        return Binding(port.value)
    rows = {"call": run * tensor.shape[0], "window": runs - run, "newest": runs - run - 1}
    return Binding(port.value, rows[port.rows])


def _constants(program: Program) -> dict[str, np.ndarray]:
    """The arrays that some stage reads, in the dtype in which it does."""
    read: dict[str, TensorType] = {}
    for name, stage in program.stages.items():
        for tensor, type_ in stage.inputs.items():
            port = program.ports[name][tensor]
            if port.value not in read or port.rows == "whole":
                read[port.value] = type_
    return {
        name: _with_rows(array, read[name].shape).astype(_numpy(read[name].dtype))
        for name, array in program.constants.items()
        if name in read
    }


def _with_rows(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The array with as many rows as a stage reads at once: of more calls than a run may have."""
    missing = shape[0] - len(array) if shape else 0
    return array if missing <= 0 else np.concatenate([array, array[-1:].repeat(missing, axis=0)])


def _numpy(dtype: str) -> np.dtype[Any]:
    """numpy has no bfloat16 of its own."""
    return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def _buffers(program: Program, calls: Sequence[Call]) -> dict[str, Value]:
    """Everything that lives in the arena, still without an offset."""
    kinds = {
        binding.value: program.ports[call.stage][tensor].makes
        for call in calls
        for tensor, binding in call.writes.items()
    }
    buffers: dict[str, Value] = {}
    for call in calls:
        stage, ports = program.stages[call.stage], program.ports[call.stage]
        for tensor, binding in (*call.reads.items(), *call.writes.items()):
            name, type_ = binding.value, stage.inputs.get(tensor) or stage.outputs[tensor]
            if name in program.constants:
                continue
            shape = type_.shape
            if binding.row is not None:
                # As many rows as some call reads or writes, and a block for every call.
                every = program.runs * shape[0] if ports[tensor].rows == "call" else 0
                known = buffers[name].type.shape[0] if name in buffers else 0
                shape = (max(known, every, binding.row + shape[0]), *shape[1:])
            made = kinds.get(name)  # what no call writes, the caller gives
            buffers[name] = Value(
                "scratch" if made == "feed" else made or "input",
                TensorType(type_.dtype, shape),
                feed=made == "feed",
                range=program.ranges.get(name),
                default=program.defaults.get(name),
            )
    return buffers
