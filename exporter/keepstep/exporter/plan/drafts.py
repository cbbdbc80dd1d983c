"""A schedule that has met its model, on its way to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from keepstep.runtime.format.plan import Plan, Stage, Step, TensorType

from ..stages.factory import StageId
from ..store.bundle_writer import WEIGHTS_FILE, constants_path
from .lowering import LoweredSchedule
from .program import NetworkCall, Program, build_plan, score_weights


@dataclass(frozen=True)
class Draft:
    """A schedule on its way to a plan."""

    entry: LoweredSchedule
    stages: Mapping[str, StageId]  # by their names within the plan, in order of their first call
    tables: Mapping[str, np.ndarray]  # float32
    inputs: Mapping[str, np.ndarray]  # golden
    ranges: Mapping[str, tuple[float, float]]  # of inputs, lowest and highest

    @property
    def name(self) -> str:
        """Of the schedule, and of the plan."""
        return self.entry.schedule.name


def stages_of(entry: LoweredSchedule) -> dict[str, StageId]:
    """The stages of a plan, in the order in which they first run, by their names in it."""
    parts = ["text", "prompt", *(["encode"] if entry.sampler.from_image else [])]
    stages = [
        *(StageId(part) for part in parts),
        *(StageId("network", variant=variant) for variant in dict.fromkeys(entry.variants)),
        StageId("decode", window=entry.window),
    ]
    return {stage.name: replace(stage, guided=entry.guided) for stage in stages}


def plan_of(
    draft: Draft, stages: Mapping[str, Stage], weights: Mapping[str, TensorType]
) -> tuple[Plan, dict[str, np.ndarray]]:
    """The plan, and the arrays of its constants.

    stages    by their names in the plan
    weights   type of every weight that these take
    """
    entry = draft.entry
    program = Program(
        name=draft.name,
        stages=stages,
        calls=[
            NetworkCall(k, variant.name, score_weights(entry.calls[k], run))
            for run, (k, variant) in enumerate(zip(entry.running, entry.variants, strict=True))
        ],
        sampler=entry.sampler,
        steps=[
            Step(call.kind, t, kept)
            for call, t, kept in zip(entry.calls, entry.timesteps, entry.kept, strict=True)
        ],
        tables=draft.tables,
        weights=weights,
        ranges=draft.ranges,
    )
    return build_plan(program, constants_path(program.name), WEIGHTS_FILE)
