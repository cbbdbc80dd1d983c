"""The benchmark: every plan of a bundle, and the same schedules run by PyTorch, on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing

from keepstep.exporter.work import Progress
from keepstep.runtime import Bundle
from keepstep.runtime.errors import InputError, KeepstepError

from .configurations import CompiledConfiguration, Configuration, backends_for
from .eager import COMPILED, EagerConfiguration, EagerModel, usual_place
from .equal_latency import Comparison, comparison, plain_bundle, plain_for
from .footprint import footprint
from .machine import conditions
from .measure import Measured, measure
from .memory import peak_memory
from .report import Report
from .rows import Baseline, Row, row_of
from .setting import Setting

BASELINE = "full"  # the plan against which speed and quality are measured


def benchmark(
    bundle: Bundle,
    setting: Setting,
    model: str | None = None,
    backends: Sequence[str] = (),
    report: Progress = lambda what, done, total: None,
) -> Report:
    """Measure every plan of `bundle` on every one of `backends`; all that can run if none is given.

    With `model`, the folder that was exported, every schedule is also run by PyTorch, and every
    plan that is faster than the full one is compared with plain sampling in the same time.
    Raises `KeepstepError`.
    """
    if not bundle.plans:
        raise InputError(f"bundle {bundle.path} has no plans: there is nothing to measure")
    loaded = EagerModel(model, bundle, usual_place(bundle)) if model else None
    configurations = list(configurations_of(bundle, setting, loaded, backends))
    return measured_report(bundle, setting, configurations, model, report)


def measured_report(
    bundle: Bundle,
    setting: Setting,
    configurations: Sequence[Configuration],
    model: str | None = None,
    report: Progress = lambda what, done, total: None,
) -> Report:
    """The same for chosen `configurations`, which are closed in the end.

    The full plan has to be among them on every backend, and eagerly where anything is eager.
    """
    machine = conditions()
    places = [
        configuration.loaded.place
        for configuration in configurations
        if isinstance(configuration, EagerConfiguration) and configuration.rounds
    ]
    with ExitStack() as stack:
        for configuration in configurations:
            stack.enter_context(closing(configuration))
        measured = measure(configurations, report)
        name = BASELINE if BASELINE in bundle.plans else bundle.plans[0]
        baseline = Baseline.of(measured, name)
        notes = [] if model else ["no --model: PyTorch and fewer plain steps were not measured"]
        rows = _rows(measured, baseline, setting, report, notes)
        pictures = [m.runs[0].image for m in measured]
        comparisons: list[Comparison] = []
        if model and setting.equal_latency:
            try:
                plain, found, comparisons = _compared(
                    bundle, setting, model, configurations, rows, baseline, report, notes
                )
            except KeepstepError as error:
                notes.append(f"fewer plain steps were not measured: {error}")
            else:
                rows += plain
                pictures += [m.runs[0].image for m in found]
    return Report(
        bundle=dict(bundle.manifest.model),
        bundle_bytes=sum(entry.bytes for entry in bundle.manifest.files.values()),
        picture=baseline.image.shape[:3],
        baseline=name,
        setting=setting,
        machine=machine,
        eager=places[0] if places else None,
        rows=rows,
        equal_latency=comparisons,
        notes=notes,
        pictures=pictures,
    )


def configurations_of(
    bundle: Bundle, setting: Setting, loaded: EagerModel | None, backends: Sequence[str]
) -> Iterator[Configuration]:
    """What is measured: each plan eagerly where a model is given, and on each backend.

    On a GPU the full plan is also run as PyTorch compiles it. Raises `BackendError`.
    """
    for plan in bundle.plans:
        if loaded:
            yield EagerConfiguration(bundle, plan, loaded, setting)
            if loaded.on_gpu and plan == BASELINE and setting.torch_compile:
                yield EagerConfiguration(bundle, plan, loaded, setting, COMPILED)
        for name in backends_for(bundle, plan, tuple(backends)):
            yield CompiledConfiguration(bundle, plan, name, setting)


def _rows(
    measured: Sequence[Measured],
    baseline: Baseline,
    setting: Setting,
    report: Progress,
    notes: list[str],
) -> list[Row]:
    """The lines of what was measured; `notes` is told of memory that could not be."""
    rows = []
    for i, each in enumerate(measured):
        what = "memory in a process of its own" if setting.peaks else "golden values"
        report(f"{what}: {each.configuration.label}, {each.configuration.how}", i, len(measured))
        peak = memory = None
        if setting.peaks:
            try:
                peak, memory = peak_memory(each.configuration), footprint(each.configuration)
            except KeepstepError as error:
                notes.append(str(error))
        rows.append(row_of(each, baseline, peak, memory))
    return rows


def _compared(
    bundle: Bundle,
    setting: Setting,
    model: str,
    configurations: Sequence[Configuration],
    rows: Sequence[Row],
    baseline: Baseline,
    report: Progress,
    notes: list[str],
) -> tuple[list[Row], list[Measured], list[Comparison]]:
    """Plain sampling, in turns with the plans that it is held against.

    These are rounds of their own: how many steps fit is known when the others are measured.
    """
    plains = plain_for(bundle, rows, baseline.name, model)
    if not plains:
        return [], [], []
    with ExitStack() as stack:
        exported = stack.enter_context(plain_bundle(bundle, plains, model, report))
        wanted = dict.fromkeys((plain.name, plain.how, plain.label) for plain in plains)
        own = [
            CompiledConfiguration(exported, name, how, setting, label)
            for name, how, label in wanted
        ]
        for configuration in own:
            stack.enter_context(closing(configuration))
        rivals = {(plain.plan, plain.how) for plain in plains}
        others = [
            configuration
            for configuration in configurations
            if (configuration.plan, configuration.how) in rivals
        ]
        measured = measure([*others, *own], report, "round with plain steps")
        plain_only = measured[len(others) :]
        found = _rows(plain_only, baseline, setting, report, notes)
    known = {(row.plan, row.how): row for row in (*rows, *found)}
    seconds = {(m.configuration.label, m.configuration.how): m.seconds.median for m in measured}
    return found, plain_only, [comparison(plain, known, seconds) for plain in plains]
