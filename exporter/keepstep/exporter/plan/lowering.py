"""A schedule meets a model: its calls are counted, its skips folded, its stages named.

Everything that can be refused is refused here, before anything slow is done.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..models import StableDiffusion
from ..schedule.fold_skips import fold_skips
from ..schedule.sampler import LoweredSampler, lower, scheduler_from
from ..schedule.schema import Call, Schedule
from ..stages.factory import NetworkVariant, StageFactory, window_for


@dataclass(frozen=True)
class LoweredSchedule:
    """A schedule that has met the model."""

    schedule: Schedule
    calls: tuple[Call, ...]  # one for each call of the sampler
    timesteps: tuple[float, ...]  # of all calls
    sampler: LoweredSampler  # of those that run
    variants: tuple[NetworkVariant, ...]  # of those that run
    kept: tuple[int | None, ...]  # tokens, of all calls; None where nothing is pruned
    guided: bool = True  # whether the run has both halves of guidance

    @property
    def running(self) -> tuple[int, ...]:
        """The calls of the sampler that run, by number."""
        return tuple(k for k, call in enumerate(self.calls) if call.kind != "skip")

    @property
    def window(self) -> int:
        """Length of the history's window."""
        return window_for(self.sampler.rows)


def lower_schedule(
    model: StableDiffusion, factory: StageFactory, schedule: Schedule
) -> LoweredSchedule:
    """Check `schedule` against `model`; raises `ScheduleError` or `SamplerError`."""
    scheduler = scheduler_from(model.scheduler_config, schedule.sampler)
    steps, strength = schedule.sampler.steps, schedule.sampler.strength
    sampler = lower(scheduler, steps, strength)
    asked_by = f"{sampler.name} with {steps} steps"
    if strength is not None:
        asked_by += f" at strength {strength:g}"
    calls = schedule.resolve(len(sampler.timesteps), asked_by)
    folded = fold_skips(sampler, [call.kind for call in calls])
    running = [call for call in calls if call.kind != "skip"]
    variants = tuple(factory.variant(schedule, call, folded.rows) for call in running)
    counts = [factory.counts(schedule, call) for call in calls]
    kept = tuple(c.kept if c else None for c in counts)
    timesteps = sampler.timesteps
    return LoweredSchedule(schedule, calls, timesteps, folded, variants, kept, factory.guided)
