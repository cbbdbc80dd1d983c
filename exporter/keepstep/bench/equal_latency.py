"""The question that a schedule must answer: is it better than fewer plain steps in the same time?

Plain sampling has every call full, and the sampler, seed and prompt of the schedule. Its stages
are those of the full plan whatever its steps, so its plans are exported in seconds.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from keepstep.exporter.compiler import export
from keepstep.exporter.engines import BuildOptions
from keepstep.exporter.errors import ExportError
from keepstep.exporter.folder.model_folder import find_folder
from keepstep.exporter.schedule.schema import Repeat, Schedule
from keepstep.exporter.schedule.settings import Guidance, Sampler
from keepstep.exporter.settings import SETTINGS_FILE, choice_of
from keepstep.exporter.store.bundle_writer import schedule_path
from keepstep.exporter.store.cache import Cache
from keepstep.exporter.work import Progress
from keepstep.runtime import Bundle, __version__
from keepstep.runtime.backends import playable
from keepstep.runtime.format.plan import Plan

from .rows import Row


@dataclass(frozen=True)
class Plain:
    """Plain sampling that is to take as long as a plan."""

    plan: str  # that it is held against
    how: str  # the backend
    sampler: Sampler  # with as many steps as fit
    calls: int  # of the network
    predicted_seconds: float  # of its loop
    budget_seconds: float  # the plan's measured loop
    number: int = 1  # tells it from others with as many steps
    guidance: Guidance | None = None  # the schedule's

    @property
    def name(self) -> str:
        """Its plan's name."""
        return f"plain-{self.sampler.steps}" + (f"-{self.number}" if self.number > 1 else "")

    @property
    def label(self) -> str:
        """Its name in the report."""
        steps = f"plain, {self.sampler.steps} step{'s' if self.sampler.steps > 1 else ''}"
        return steps + (f" ({self.number})" if self.number > 1 else "")


@dataclass(frozen=True)
class Comparison:
    """A plan beside plain sampling in the same time; `plain` is the plan of its row.

    The medians `seconds` and `plain_seconds` are of rounds in which both took turns.
    """

    plan: str
    how: str
    plain: str
    steps: int
    calls: int
    predicted_seconds: float
    budget_seconds: float
    seconds: float
    plain_seconds: float
    psnr: float | None
    plain_psnr: float | None
    ssim: float
    plain_ssim: float
    nearer_by_psnr: bool  # the plan is, to the full plan's picture
    nearer_by_ssim: bool

    @property
    def sentence(self) -> str:
        """What was found, in one line."""
        if self.nearer_by_psnr == self.nearer_by_ssim:
            nearer = self.plan if self.nearer_by_psnr else self.plain
            verdict = f"{nearer} is nearer to the full plan's picture"
        else:
            by_psnr, by_ssim = (self.plan, self.plain)[:: 1 if self.nearer_by_psnr else -1]
            verdict = (
                f"{by_psnr} is nearer to the full plan's picture by PSNR, {by_ssim} is by SSIM"
            )
        return f"{verdict}; {self.plain} took {self.plain_seconds / self.seconds:.2f} times as long"


def plain_for(bundle: Bundle, rows: Sequence[Row], baseline: str, model: str) -> list[Plain]:
    """One for every compiled plan that is faster than the full one on the same backend.

    `model` is the exported folder, whose scheduler config counts calls. Raises `KeepstepError`.
    """
    from keepstep.exporter.models import scheduler_config_of

    config = scheduler_config_of(find_folder(model, choice_of(bundle)))
    full = {row.how: row for row in rows if row.plan == baseline and row.launches}
    found = []
    for row in rows:
        if row.how not in full or row.plan == baseline:
            continue
        budget = row.loop_seconds.median
        if budget >= full[row.how].loop_seconds.median:
            continue
        schedule = Schedule.load(bundle.file(schedule_path(row.plan)))
        fitting = _fitting(row, schedule.sampler, config, _full_call(full[row.how]))
        found.append(replace(fitting, guidance=schedule.guidance))
    return _numbered(found)


def _full_call(full: Row) -> float:
    """Seconds of one full call: by itself, or its share of the loop where that is less.

    On a GPU the loop is faster than its calls one by one, and too slow a call would leave plain
    sampling fewer steps than it has time for.
    """
    calls = full.calls.get("full", 0)
    if "full" not in full.call_seconds or not calls:  # labels of other tools say other things
        return full.loop_seconds.median / max(1, sum(full.calls.values()))
    return min(full.call_seconds["full"].median, full.loop_seconds.median / calls)


def _fitting(row: Row, sampler: Sampler, config: Mapping[str, Any], call_seconds: float) -> Plain:
    """The most steps whose calls take no longer than the row's loop; at least one."""
    budget = row.loop_seconds.median

    def predicted(steps: int) -> float:
        return calls_of(sampler, config, steps) * call_seconds

    few = 1 if sampler.strength is None else -int(-1 // sampler.strength)  # one that remains
    known = range(few, max(few, sampler.steps) + 1)
    steps = known[max(0, bisect_right(known, budget, key=predicted) - 1)]
    return Plain(
        plan=row.plan,
        how=row.how,
        sampler=sampler.model_copy(update={"steps": steps}),
        calls=calls_of(sampler, config, steps),
        predicted_seconds=predicted(steps),
        budget_seconds=budget,
    )


def _numbered(plains: Sequence[Plain]) -> list[Plain]:
    """The same sampler and guidance have the same name, and others have others."""
    runs = list(dict.fromkeys((plain.sampler, plain.guidance) for plain in plains))

    def number(plain: Plain) -> int:
        alike = [run for run in runs if run[0].steps == plain.sampler.steps]
        return 1 + alike.index((plain.sampler, plain.guidance))

    return [replace(plain, number=number(plain)) for plain in plains]


def calls_of(sampler: Sampler, config: Mapping[str, Any], steps: int) -> int:
    """How often the sampler asks the network in `steps` steps; raises `SamplerError`."""
    from keepstep.exporter.schedule.sampler import lower
    from keepstep.exporter.schedule.scheduler import scheduler_from

    if config.get("use_dynamic_shifting"):  # by the picture's size, which changes no number
        config = {**config, "use_dynamic_shifting": False}
    return len(lower(scheduler_from(config, sampler), steps, sampler.strength).timesteps)


@contextmanager
def plain_bundle(
    bundle: Bundle, plains: Sequence[Plain], model: str, report: Progress
) -> Iterator[Bundle]:
    """A bundle with the plans of `plains`, for a while.

    It is exported as `bundle` was and with its schedules, so that stages, weights and what stays
    in float32 are the same and found in the cache. Raises `KeepstepError`.
    """
    settings = _settings(bundle)
    runs = {plain.name: (plain.sampler, plain.guidance) for plain in plains}
    plain = [
        Schedule(name=name, sampler=sampler, guidance=guidance, calls=Repeat(repeat="F"))
        for name, (sampler, guidance) in runs.items()
    ]
    own = [Schedule.load(bundle.file(schedule_path(name))) for name in bundle.plans]
    plan = bundle.plan(bundle.plans[0])
    kinds = _engine_kinds(plan, {plain.how for plain in plains})
    batch, height, width, _ = plan.values["image"].type.shape
    kept = settings["kept_in_float32"]
    with Cache.default().scratch() as folder:
        exported = export(
            model,
            [*own, *plain],
            folder / "bundle",
            kinds,
            height,
            width,
            batch,
            dtype=settings["dtype"],
            float32=settings["float32"],
            **asdict(choice_of(bundle)),
            options=_options([settings["engines"][kind] for kind in kinds]),
            # What stays in float32 is found by calibrating; where nothing does there is nothing to
            # be found, and the bundle's own plans have been verified.
            verify="stages" if kept else "none",
            progress=lambda what, done, total: report(
                f"plain steps, of stages in the cache: {what}", done, total
            ),
        )
        _check_weights(bundle, exported, model)
        yield exported


def comparison(
    plain: Plain, rows: Mapping[tuple[str, str], Row], seconds: Mapping[tuple[str, str], float]
) -> Comparison:
    """Both side by side; `rows`, and the `seconds` of the rounds that they share, by plan and how
    it was run."""
    keys = (plain.plan, plain.how), (plain.label, plain.how)
    one, other = (rows[key] for key in keys)
    likeness_of = [
        (float("inf") if row.psnr is None else row.psnr, row.ssim) for row in (one, other)
    ]
    by_psnr, by_ssim = (a >= b for a, b in zip(*likeness_of, strict=True))
    return Comparison(
        plan=plain.plan,
        how=plain.how,
        plain=plain.label,
        steps=plain.sampler.steps,
        calls=plain.calls,
        predicted_seconds=plain.predicted_seconds,
        budget_seconds=plain.budget_seconds,
        seconds=seconds[keys[0]],
        plain_seconds=seconds[keys[1]],
        psnr=one.psnr,
        plain_psnr=other.psnr,
        ssim=one.ssim,
        plain_ssim=other.ssim,
        nearer_by_psnr=by_psnr,
        nearer_by_ssim=by_ssim,
    )


def _check_weights(bundle: Bundle, exported: Bundle, model: str) -> None:
    """Refuse another checkpoint of the same shapes: its pictures are no comparison.

    The weights that the prompt meets are few, and every fine-tune changes them.
    """
    ours, theirs = _prompt_weights(bundle), _prompt_weights(exported)
    alike = (np.array_equal(ours[name], theirs[name]) for name in ours)
    if ours.keys() != theirs.keys() or not all(alike):
        raise ExportError(
            f"{model} has other weights than the bundle: give the folder that was exported"
        )


def _prompt_weights(bundle: Bundle) -> dict[str, np.ndarray]:
    """By name; none where they are embedded in engines."""
    plan = bundle.plan(bundle.plans[0])
    values = {name: plan.values[name] for name in plan.stages["prompt"].weights.values()}
    return {n: bundle.array(v.file or "", v.tensor or "") for n, v in values.items()}


def _settings(bundle: Bundle) -> dict[str, Any]:
    """How the bundle was made."""
    ours = f"keepstep {__version__}"
    if bundle.manifest.producer != ours:
        raise ExportError(
            f"the bundle was made by {bundle.manifest.producer} and this is {ours}, whose stages "
            "differ: export it again"
        )
    try:
        settings = json.loads(bundle.read(SETTINGS_FILE))
        return {key: settings[key] for key in ("dtype", "engines", "float32", "kept_in_float32")}
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{SETTINGS_FILE} does not say how the bundle was made: export it again"
        ) from error


def _engine_kinds(plan: Plan, backends: set[str]) -> list[str]:
    """The kinds of engines in the bundle that `backends` play."""

    def alone(kind: str) -> Plan:
        stages = {
            name: replace(stage, engines={k: p for k, p in stage.engines.items() if k == kind})
            for name, stage in plan.stages.items()
        }
        return replace(plan, stages=stages)

    kinds = sorted({kind for stage in plan.stages.values() for kind in stage.engines})
    return [kind for kind in kinds if backends & {*playable(alone(kind))}]


def _options(identities: Sequence[Mapping[str, Any]]) -> BuildOptions:
    """The options of an export, from what the bundle says of its engines."""
    known = {field.name for field in fields(BuildOptions)}
    said: dict[str, Any] = {k: v for one in identities for k, v in one.items() if k in known}
    lists = {k: tuple(v) for k, v in said.items() if isinstance(v, list)}
    return BuildOptions(**{**said, **lists})
