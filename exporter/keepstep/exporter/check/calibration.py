"""Calibration: each stage of a plan runs once, eagerly in float32, where the plan first calls it.

It costs one launch a stage, so it is affordable where a whole eager run is not. Its outputs are
what every engine is compared with, and its ranges tell what half precision cannot hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from keepstep.runtime.format.plan import Plan

from ..errors import ExportError
from ..graph.precision import PRODUCTS
from ..stages.spec import StageSpec, TracedStage
from .eager import Eager
from .values import put, rows, start_values

# Numbers of another prompt or another timestep may be larger than those of the calibration.
HEADROOM = 4.0


@dataclass(frozen=True)
class Calibration:
    """outputs   index in `Plan.calls` → tensor → float32 array
    ranges    stage → node → the largest magnitude that it gave
    handed_on tensor → the same, of those that networks hand to networks in the plan's dtype
    """

    outputs: Mapping[int, Mapping[str, np.ndarray]]
    ranges: Mapping[str, Mapping[str, float]]
    handed_on: Mapping[str, float]


def first_calls(plan: Plan) -> list[int]:
    """The calls in which the plan's stages run for the first time."""
    seen: dict[str, int] = {}
    for i, call in enumerate(plan.calls):
        seen.setdefault(call.stage, i)
    return list(seen.values())


def calibrate(
    plan: Plan,
    constants: Mapping[str, np.ndarray],
    stages: Mapping[str, TracedStage],
    inputs: Mapping[str, np.ndarray],
    read: Callable[[str], Tensor],
    report: Callable[[int, int], None],
) -> Calibration:
    """Run the first call of every stage; what no such call writes is zeros.

    plan    in float32; its engines are not looked at
    stages  by name, in float32
    read    gives tensors of the checkpoint
    """
    start = {**start_values(plan, inputs), **constants}
    values = {name: torch.from_numpy(array) for name, array in start.items()}
    outputs: dict[int, dict[str, np.ndarray]] = {}
    ranges: dict[str, Mapping[str, float]] = {}
    handed_on: dict[str, float] = {}
    calls = first_calls(plan)
    for done, i in enumerate(calls):
        report(done, len(calls))
        call = plan.calls[i]
        stage = plan.stages[call.stage]
        reads = {t: rows(values[b.value], b, stage.inputs[t]) for t, b in call.reads.items()}
        traced = stages[call.stage]
        eager = Eager(traced.subgraph, read)
        given = eager.give(reads)
        put(plan, i, given, values)
        outputs[i] = {tensor: value.contiguous().numpy() for tensor, value in given.items()}
        ranges[call.stage] = eager.ranges
        lowered = {tensor: x for tensor, x in given.items() if traced.ports[tensor].lowered}
        handed_on |= {tensor: float(x.abs().max()) for tensor, x in lowered.items()}
    return Calibration(outputs, ranges, handed_on)


def out_of_range(stage: StageSpec, ranges: Mapping[str, float], dtype: torch.dtype) -> set[str]:
    """Names of the nodes of a stage that `dtype` can't hold, with headroom.

    They give too much, or multiply what is too much already. The stage is traced only where there
    are any.
    """
    limit = torch.finfo(dtype).max / HEADROOM
    large = {name for name, most in ranges.items() if not most <= limit}
    kept: set[str] = set()
    for node in stage.subgraph.module.graph.nodes if large else ():
        if node.op != "call_function":
            continue
        takes_large = any(source.name in large for source in node.all_input_nodes)
        if node.name in large or (node.target in PRODUCTS and takes_large):
            kept.add(node.name)
    return kept


def check_boundaries(calibration: Calibration, dtype: torch.dtype) -> None:
    """Refuse a dtype in which stages cannot hand on their results; raises `ExportError`."""
    limit = torch.finfo(dtype).max / HEADROOM
    for tensor, largest in calibration.handed_on.items():
        if not largest <= limit:
            name = str(dtype).removeprefix("torch.")
            raise ExportError(
                f"{tensor} holds values up to {largest:.3g}, too near to what {name} can hold: "
                "export with --dtype bfloat16 or float32"
            )
