"""From what was measured to the lines of the report: times, costs, gains and likeness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keepstep.playing.summary import loop_macs, step_counts

from .eager import EAGER
from .footprint import Footprint
from .measure import Measured, Spread
from .similarity import similarity


@dataclass(frozen=True)
class Gains:
    """How many times faster a row is; None where there is nothing to hold it against.

    schedule    than the full schedule, run in the same way
    compiling   than the eager run of the same schedule
    total       than the eager run of the full schedule; where nothing is eager, as `schedule`
    """

    schedule: float | None
    compiling: float | None
    total: float | None


@dataclass(frozen=True)
class Row:
    """One line of the report: a plan, and how it was run."""

    plan: str
    how: str  # a backend, `eager` or `torch.compile`
    rounds: int
    calls: Mapping[str, int]  # of the sampler, by label
    seconds: Spread  # of a whole picture
    loop_seconds: Spread
    call_seconds: Mapping[str, Spread]
    timeline: Sequence[tuple[str, float]]  # every call: its label, and its median seconds
    launches: int | None  # of engines; None for PyTorch, which launches kernels
    loop_macs: int
    ideal_seconds: float  # loop of the full schedule, run in the same way, × share of its MACs
    measured_over_ideal: float  # loop
    gains: Gains
    peak_bytes: int | None  # of host memory; None where that was not measured
    memory: Footprint | None  # of players that are ready; None where that was not measured
    device_bytes: int | None  # of a GPU; None where that is not known
    psnr: float | None  # against the full plan's picture; None: the very same picture
    ssim: float
    golden_error: float | None  # relative, of a plan's latents against its recorded eager run


@dataclass(frozen=True)
class Baseline:
    """What rows are held against."""

    name: str  # the plan
    full: Mapping[str, Measured]  # that plan, by how it was run
    eager: Mapping[str, Measured]  # eager runs, by plan
    image: np.ndarray  # of the compiled full plan

    @staticmethod
    def of(measured: Sequence[Measured], name: str) -> Baseline:
        """Plan `name` is the full one; some configuration of it is compiled."""
        full = {m.configuration.how: m for m in measured if m.configuration.plan == name}
        eager = {m.configuration.plan: m for m in measured if m.configuration.how == EAGER}
        compiled = next(m for m in full.values() if m.configuration.model is None)
        return Baseline(name, full, eager, compiled.runs[0].image)


def row_of(
    measured: Measured,
    baseline: Baseline,
    peak_bytes: int | None,
    memory: Footprint | None = None,
) -> Row:
    """The line of one configuration."""
    configuration = measured.configuration
    plan = configuration.bundle.plan(configuration.plan)
    full = baseline.full[configuration.how]
    full_macs = loop_macs(full.configuration.bundle.plan(full.configuration.plan))
    loop, macs = measured.loop_seconds, loop_macs(plan)
    ideal = full.loop_seconds.median * macs / full_macs
    psnr, ssim = similarity(measured.runs[0].image, baseline.image)
    return Row(
        plan=configuration.label,
        how=configuration.how,
        rounds=len(measured.runs),
        calls=step_counts(plan),
        seconds=measured.seconds,
        loop_seconds=loop,
        call_seconds=measured.call_seconds,
        timeline=measured.timeline,
        launches=None if configuration.model else len(plan.calls),
        loop_macs=macs,
        ideal_seconds=ideal,
        measured_over_ideal=loop.median / ideal,
        gains=_gains(measured, baseline),
        peak_bytes=peak_bytes,
        memory=memory,
        device_bytes=measured.runs[-1].device_bytes,
        psnr=psnr,
        ssim=ssim,
        golden_error=configuration.golden_error(),
    )


def _gains(measured: Measured, baseline: Baseline) -> Gains:
    """Plans of another bundle have no eager run of their own."""
    configuration, seconds = measured.configuration, measured.seconds.median

    def over(other: Measured | None) -> float | None:
        return None if other is None else other.seconds.median / seconds

    schedule = over(baseline.full[configuration.how])
    first = baseline.eager.get(baseline.name)
    same = baseline.eager.get(configuration.plan)
    return Gains(schedule, over(same), over(first) if first else schedule)
