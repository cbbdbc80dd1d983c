"""A schedule meets a model: its calls are counted, its skips folded, its stages named.

Everything that can be refused is refused here, before anything slow is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..methods.dato import TokenCounts
from ..methods.kept_tokens import chooser_of
from ..methods.registry import constants_of
from ..models.family import Model
from ..schedule.fold_skips import fold_skips
from ..schedule.sampler import LoweredSampler, lower
from ..schedule.scheduler import scheduler_from
from ..schedule.schema import Call, Schedule
from ..schedule.settings import Guidance
from ..stages.factory import StageFactory
from ..stages.spec import StageSpec
from ..stages.variant import NetworkVariant, pruned_counts, window_for
from .program import Launch


@dataclass(frozen=True)
class LoweredSchedule:
    """A schedule that has met the model.

    calls       one for each call of the sampler
    timesteps   of all calls
    sampler     of those that run
    variants    of those that run
    kept        tokens, of all calls; None where nothing is pruned
    stages      by their names in the plan, in the order in which they first run; one that turns
                out to give nothing is left out
    launches    of the plan, in order
    constants   what is fixed of the inputs of methods
    guidance    what guidance the run has
    """

    schedule: Schedule
    calls: tuple[Call, ...]
    timesteps: tuple[float, ...]
    sampler: LoweredSampler
    variants: tuple[NetworkVariant, ...]
    kept: tuple[int | None, ...]
    stages: Mapping[str, StageSpec]
    launches: tuple[Launch, ...]
    constants: Mapping[str, np.ndarray]
    guidance: Guidance = "classifier-free"

    @property
    def running(self) -> tuple[int, ...]:
        """The calls of the sampler that run, by number."""
        return tuple(k for k, call in enumerate(self.calls) if call.kind != "skip")

    @property
    def calls_that_run(self) -> tuple[Call, ...]:
        """Those, with what they really prune: a call may leave out all that could be pruned."""
        return tuple(
            self.calls[k].model_copy(update={"prune": variant.prune})
            for k, variant in zip(self.running, self.variants, strict=True)
        )


def lower_schedule(model: Model, factory: StageFactory, schedule: Schedule) -> LoweredSchedule:
    """Check `schedule` against `model`; raises `ScheduleError` or `SamplerError`."""
    schedule = model.settled(schedule)
    scheduler = scheduler_from(model.scheduler_config, schedule.sampler)
    steps, strength = schedule.sampler.steps, schedule.sampler.strength
    sampler = lower(scheduler, steps, strength, model.timing)
    asked_by = f"{sampler.name} with {steps} steps"
    if strength is not None:
        asked_by += f" at strength {strength:g}"
    calls = schedule.resolve(len(sampler.timesteps), asked_by)
    folded = fold_skips(sampler, [call.kind for call in calls])
    running = [k for k, call in enumerate(calls) if call.kind != "skip"]
    variants = tuple(factory.variant(schedule, calls[k], folded.rows) for k in running)
    counts = [pruned_counts(model, schedule, call) for call in calls]

    window = window_for(folded.rows)
    before = [factory.text(), factory.prompt(), factory.conditioning(window)]
    if folded.from_image:
        before.append(factory.encode())
    network = [factory.network(variant) for variant in variants]
    decode = factory.decode(window)
    begin = _begin(model, factory, calls)
    launches_of_network: list[Launch] = []
    for run, (k, stage) in enumerate(zip(running, network, strict=True)):
        if calls[k].kind == "tokens" and calls[running[run - 1]].kind != "tokens":
            launches_of_network += [Launch(stage.name, run) for stage in begin]
        launches_of_network.append(Launch(stage.name, run, k))
    launches = (
        *(Launch(stage.name, 0) for stage in before),
        *launches_of_network,
        Launch(decode.name, len(running)),
    )
    return LoweredSchedule(
        schedule=schedule,
        calls=calls,
        timesteps=sampler.timesteps,
        sampler=folded,
        variants=variants,
        kept=tuple(_kept(model, call, pruned) for call, pruned in zip(calls, counts, strict=True)),
        stages={stage.name: stage for stage in (*before, *begin, *network, decode)},
        launches=launches,
        constants=constants_of(model.denoiser, [calls[k] for k in running], factory.latents),
        guidance=factory.guidance,
    )


def _kept(model: Model, call: Call, pruned: TokenCounts | None) -> int | None:
    """How many tokens a call keeps, if not all."""
    if call.keep:
        return chooser_of(model.denoiser, call.keep, (1, *model.latent_shape)).k
    return pruned.kept if pruned else None


def _begin(model: Model, factory: StageFactory, calls: Sequence[Call]) -> tuple[StageSpec, ...]:
    """What is launched in front of calls that keep tokens, behind each of another kind."""
    keep = next((call.keep for call in calls if call.keep), None)
    if keep is None or not (chooser := chooser_of(model.denoiser, keep, factory.latents)).looks:
        return ()
    return (factory.begin(chooser.clusters),)
