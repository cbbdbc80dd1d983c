"""A schedule that has met its model, on its way to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from keepstep.runtime.format.plan import Default, Plan, Stage, Step, TensorType

from ..methods.port import Port
from ..schedule.sampler import LoweredSampler
from ..store.bundle_writer import WEIGHTS_FILE, constants_path
from .lowering import LoweredSchedule
from .program import Program, build_plan


@dataclass(frozen=True)
class Draft:
    """A schedule on its way to a plan.

    tables   what the network takes from the timestep: float32, a block of rows a call
    inputs   golden ones
    ranges   of inputs, lowest and highest
    defaults of inputs that the caller may leave out
    """

    entry: LoweredSchedule
    tables: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray]
    ranges: Mapping[str, tuple[float, float]]
    defaults: Mapping[str, Default]

    @property
    def name(self) -> str:
        """Of the schedule, and of the plan."""
        return self.entry.schedule.name


def plan_of(
    draft: Draft,
    stages: Mapping[str, Stage],
    ports: Mapping[str, Mapping[str, Port]],
    weights: Mapping[str, TensorType],
) -> tuple[Plan, dict[str, np.ndarray]]:
    """The plan, and the arrays of its constants.

    stages, ports   by their names in the plan, those that give something
    weights         type of every weight that these take
    """
    entry = draft.entry
    window = entry.variants[0].window
    program = Program(
        name=draft.name,
        stages=stages,
        ports=ports,
        launches=[launch for launch in entry.launches if launch.stage in stages],
        runs=len(entry.running),
        steps=[
            Step(call.kind, t, kept)
            for call, t, kept in zip(entry.calls, entry.timesteps, entry.kept, strict=True)
        ],
        constants={
            "coef": coefficients(entry.sampler, window),
            **entry.constants,
            **draft.tables,
        },
        weights=weights,
        ranges=draft.ranges,
        defaults=draft.defaults,
    )
    return build_plan(program, constants_path(program.name), WEIGHTS_FILE)


def coefficients(sampler: LoweredSampler, window: int) -> np.ndarray:
    """A row (1 + window) for each call and for the decoder: the start noise's coefficient, then
    the newest prediction's first."""
    runs = len(sampler.timesteps)
    coef = np.zeros((runs + 1, 1 + window), np.float32)
    for run, row in enumerate([*sampler.inputs, sampler.result]):
        coef[run, 0] = row[0]
        known = sampler.starts + run  # of the basis, before this call
        coef[run, 1:known] = row[known - 1 : 0 : -1]
    return coef
