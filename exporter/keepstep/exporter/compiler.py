"""The exporter's driver: model + schedules → bundle."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np

from keepstep.runtime import Bundle
from keepstep.runtime.plan import Plan, Step, TensorType, Tokenizer

from . import engine_from_onnx, models
from .bundle_writer import (
    WEIGHTS_FILE,
    BundleContent,
    check_target,
    constants_path,
    schedule_path,
    write_bundle,
)
from .compiled import CompiledStage, Progress, compile_stages
from .errors import ExportError, ScheduleError
from .golden import golden_values
from .lowering import LoweredSchedule, lower_schedule
from .models import StableDiffusion
from .program import NetworkCall, Program, build_plan, score_weights
from .schedule import Schedule
from .stages import StageFactory, window_for


def export(
    model: str | Path,
    schedules: Sequence[str | Path | Schedule],
    out: str | Path,
    backends: Sequence[str] = ("onnxruntime",),
    height: int | None = None,
    width: int | None = None,
    batch: int = 1,
    progress: Progress | None = None,
) -> Bundle:
    """Compile `model` with each of `schedules` into the bundle `out`.

    model       a diffusers folder or hub id
    schedules   built-in names, paths of YAML files, or `Schedule` objects
    backends    for which engines are built
    height, width   of the picture in pixels; as the model was trained where not given
    batch       pictures a run
    Raises `ExportError` and its kinds; the folder `out` is then as it was.
    """
    report = progress or (lambda what, done, total: None)
    out = Path(out)
    check_target(out)
    _check_request(schedules, backends, batch)
    chosen = [s if isinstance(s, Schedule) else Schedule.load(s) for s in schedules]
    _check_names(chosen)
    report("load the model", 0, 1)
    adapter = models.load(str(model), height, width)
    factory = StageFactory(adapter, batch)
    lowered = [lower_schedule(adapter, factory, schedule) for schedule in chosen]
    compiled = compile_stages(factory, lowered, backends, report)
    plans: dict[str, Plan] = {}
    constants: dict[str, dict[str, np.ndarray]] = {}
    golden: dict[str, dict[str, np.ndarray]] = {}
    for i, entry in enumerate(lowered):
        name = entry.schedule.name
        report(f"golden values of {name}", i, len(lowered))
        plans[name], constants[name] = _plan(factory, entry, compiled)
        golden[name] = golden_values(adapter, entry, batch)
    weights = {n: a for stage in compiled.values() for n, a in stage.weights.items()}
    tokenizer, texts = _tokenizer(adapter)
    for schedule in chosen:
        texts[schedule_path(schedule.name)] = schedule.to_yaml().encode()
    report("write the bundle", 0, 1)
    return write_bundle(
        BundleContent(
            model={"name": adapter.name, "family": "stable-diffusion", "dtype": "float32"},
            plans=plans,
            constants=constants,
            golden=golden,
            weights=weights,
            engines={p: d for stage in compiled.values() for p, d in stage.files.items()},
            texts=texts,
            tokenizer=tokenizer,
        ),
        out,
    )


def _check_request(schedules: Sequence[object], backends: Sequence[str], batch: int) -> None:
    if not schedules:
        raise ExportError("no schedule given: name at least one, such as `full`")
    for backend in backends:
        if backend not in engine_from_onnx.BUILDERS:
            known = ", ".join(engine_from_onnx.BUILDERS)
            raise ExportError(f"no engines can be built for '{backend}': known are {known}")
    if not backends:
        raise ExportError("no backend given: name at least one, such as `onnxruntime`")
    if not 1 <= batch <= 1024:
        raise ExportError(f"batch is {batch}: give 1 to 1024 pictures a run")


def _check_names(schedules: Sequence[Schedule]) -> None:
    names = [schedule.name for schedule in schedules]
    for name in names:
        if names.count(name) > 1:
            raise ScheduleError(f"two schedules are named '{name}': give each its own name")


def _plan(
    factory: StageFactory, entry: LoweredSchedule, compiled: Mapping[Hashable, CompiledStage]
) -> tuple[Plan, dict[str, np.ndarray]]:
    window = window_for(len(entry.variants))
    own = {
        "text": compiled["text"],
        "prompt": compiled["prompt", window],
        "decode": compiled["decode", window],
    }
    tables: dict[str, np.ndarray] = {}
    for variant in dict.fromkeys(entry.variants):
        own[variant.name] = compiled[variant]
        tables |= factory.time_tables(variant, entry.sampler.timesteps)
    program = Program(
        name=entry.schedule.name,
        stages={name: c.stage for name, c in own.items()},
        calls=[
            NetworkCall(k, variant.name, score_weights(entry.calls[k], run))
            for run, (k, variant) in enumerate(zip(entry.running, entry.variants, strict=True))
        ],
        sampler=entry.sampler,
        steps=[
            Step(call.kind, t, kept)
            for call, t, kept in zip(entry.calls, entry.timesteps, entry.kept, strict=True)
        ],
        tables=tables,
        weights={
            name: TensorType(str(array.dtype), array.shape)
            for c in own.values()
            for name, array in c.weights.items()
        },
    )
    return build_plan(program, constants_path(program.name), WEIGHTS_FILE)


def _tokenizer(model: StableDiffusion) -> tuple[Tokenizer, dict[str, bytes]]:
    """The tokenizer as one file of the light `tokenizers` package."""
    path = "tokenizer/tokenizer.json"
    text = model.tokenizer.backend_tokenizer.to_str()
    pad = model.tokenizer.pad_token_id
    return Tokenizer(path, model.prompt_length, int(pad)), {path: text.encode()}
