"""One export from beginning to end: trace, calibrate, convert, build, and put into plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from keepstep.runtime.format.plan import Stage, TensorType, Tokenizer
from keepstep.runtime.memory.addresses import check_alignment

from . import models
from .check.calibration import Calibration, calibrate, check_boundaries, out_of_range
from .check.calibration_file import read_calibration, write_calibration
from .check.golden import golden_calls, golden_inputs
from .check.recorded_run import EagerCalls, golden_run, record_run, without_network
from .errors import ExportError
from .folder.content import Content
from .graph.precision import all_nodes, nodes_of_kinds
from .models import Model
from .models.checkpoint import FLOATS
from .plan.drafts import Draft, plan_of
from .plan.lowering import lower_schedule
from .request import ExportRequest
from .settings import SETTINGS_FILE, settings_text
from .stages.compiled import CompiledStage, EmbeddedWeights, Precision, StageCompiler
from .stages.factory import StageFactory
from .stages.onnx_from_trace import tensor_type
from .stages.spec import StageSpec
from .stages.time_tables import time_tables
from .stages.weights import write_weights
from .store.bundle_writer import WEIGHTS_FILE, BundleContent, save_arrays, schedule_path
from .store.cache import Blob, Cache, Files, cache_key
from .toolchain import toolchain
from .work import Progress, Task, Work

OUTPUTS_FILE = "outputs.safetensors"


def compile_bundle(
    request: ExportRequest, content: Content, cache: Cache, report: Progress
) -> tuple[BundleContent, Mapping[str, EagerCalls]]:
    """Everything that goes into the bundle of a model folder with this content.

    What is done already comes from `cache`.

    And, for each plan of which a whole run was recorded, what makes its eager calls again.
    """
    compilation = _Compilation(request, content, cache, report)
    return compilation.content(), compilation.eager_calls()


class _Compilation:
    """The state of one export: everything is made when it is first needed, and once."""

    def __init__(
        self, request: ExportRequest, content: Content, cache: Cache, report: Progress
    ) -> None:
        report("load the model", 0, 1)
        self.request = request
        self.checkpoint = content
        self.cache = cache
        self.model = models.load(content.folder, request.height, request.width, weights=False)
        self.factories = {
            guidance: StageFactory(self.model, request.batch, guidance)
            for guidance in self.model.guidances
        }
        self.compiler = StageCompiler(cache)
        lowered = [
            lower_schedule(self.model, self.factories[self.model.guidance_of(s)], s)
            for s in request.schedules
        ]
        self.wanted = list(dict.fromkeys(s for e in lowered for s in e.stages.values()))
        self.work = Work(_tasks(request, self.wanted), report)
        self.work.start("convert time")
        # The timestep tables are the same with and without guidance: any run's trace will do.
        factory = self.factories[lowered[0].guidance]
        time = self.compiler.convert(factory.time(), Precision("float32")).code
        read = self.model.checkpoint.tensor
        self.drafts = [
            Draft(
                entry=entry,
                tables=time_tables(time, read, entry.sampler.timesteps),
                inputs=golden_inputs(self.model, entry, request.batch),
                ranges=self.model.text.ranges,
                defaults=self.model.defaults(entry.guidance),
            )
            for entry in lowered
        ]

    def content(self) -> BundleContent:
        """Everything that goes into the bundle."""
        request, model = self.request, self.model
        calibrations = self.calibrations
        compiled = self.compiled
        plans, constants = {}, {}
        for draft in self.drafts:
            wanted = draft.entry.stages.items()
            own = {name: compiled[stage] for name, stage in wanted if stage in compiled}
            plans[draft.name], constants[draft.name] = plan_of(
                draft,
                {name: stage.stage for name, stage in own.items()},
                {name: stage.converted.ports for name, stage in own.items()},
                self.weights,
            )
            if any(builder.aligned for builder in request.builders):
                check_alignment(plans[draft.name])  # better told now than by the player
        golden = {
            draft.name: {
                **_prefixed("inputs", draft.inputs),
                **golden_calls(calibration, plans[draft.name]),
            }
            for draft, calibration in zip(self.drafts, calibrations, strict=False)
        }
        for draft in self.drafts if request.verify == "run" else ():
            plan, of_stages = plans[draft.name], golden[draft.name]
            run = golden_run(self._run_eagerly(draft), plan)
            golden[draft.name] = without_network(of_stages, plan) | run
        files = {path: blob for c in compiled.values() for path, blob in c.files.items()}
        if not request.embedded:
            files[WEIGHTS_FILE] = self._weights_file()
        tokenizers, texts = _tokenizers(model)
        for draft in self.drafts:
            texts[schedule_path(draft.name)] = draft.entry.schedule.to_yaml().encode()
        kept = {stage.name: sorted(nodes) for stage, nodes in self.precision.kept.items() if nodes}
        texts[SETTINGS_FILE] = settings_text(request, self.checkpoint.folder, kept)
        return BundleContent(
            model={"name": model.name, "family": model.family, "dtype": request.dtype},
            plans=plans,
            constants=constants,
            golden=golden,
            files=files,
            texts=texts,
            tokenizers=tokenizers,
        )

    def eager_calls(self) -> dict[str, EagerCalls]:
        """By plan. They hold no weights: the model is loaded anew if it comes to that."""
        request = self.request
        load = partial(models.load, self.checkpoint.folder, request.height, request.width)
        drafts = self.drafts if request.verify == "run" else ()
        return {draft.name: EagerCalls(load, draft.entry, draft.inputs) for draft in drafts}

    @cached_property
    def calibrations(self) -> list[Calibration]:
        """One for each schedule; none where nothing is verified."""
        if self.request.verify == "none":
            return []
        return [self._calibrate(draft) for draft in self.drafts]

    @cached_property
    def precision(self) -> Precision:
        """What of each stage stays in float32: what half precision was seen not to hold."""
        request = self.request
        if request.dtype == "float32":
            return Precision("float32")
        dtype = FLOATS[request.dtype]
        kept = {stage: self._asked_for(stage) for stage in self.wanted}
        for draft, calibration in zip(self.drafts, self.calibrations, strict=False):
            check_boundaries(calibration, dtype)
            for name, ranges in calibration.ranges.items():
                stage = draft.entry.stages[name]
                kept[stage] |= out_of_range(stage, ranges, dtype)
        return Precision(request.dtype, kept)

    def _asked_for(self, stage: StageSpec) -> set[str]:
        """Nodes of a stage that the user wants in float32."""
        asked = set(self.request.float32)
        if not asked:
            return set()  # nothing has to be traced to know that
        whole = asked & stage.kinds
        return all_nodes(stage.subgraph) if whole else nodes_of_kinds(stage.subgraph, asked)

    @cached_property
    def compiled(self) -> dict[StageSpec, CompiledStage]:
        """Every stage that gives something, with its engines."""
        embedded = None
        if self.request.embedded:
            embedded = EmbeddedWeights(self.checkpoint, self.model.checkpoint.tensor)
        precision, converted = self.precision, {}
        for stage in self.wanted:
            self.work.start(f"convert {stage.name}")
            made = self.compiler.convert(stage, precision)
            if made.code.outputs:
                converted[stage] = made
        builds = self.compiler.builds(converted.values(), self.request.builders, embedded)
        compiled = {}
        for stage in converted:
            self.work.start(f"build {stage.name}")
            compiled[stage] = next(builds)
        return compiled

    @cached_property
    def weights(self) -> dict[str, TensorType]:
        """Type of every weight that some stage takes."""
        codes = [stage.converted.code for stage in self.compiled.values()]
        return {name: type_ for code in codes for name, type_ in code.weights.items()}

    def _calibrate(self, draft: Draft) -> Calibration:
        """Run every stage once in float32, unless that has been done for the same checkpoint."""
        self.work.start(f"calibrate {draft.name}")

        def make(folder: Path) -> Files:
            wanted = draft.entry.stages.items()
            traced = {name: stage.traced for name, stage in wanted if stage.subgraph.outputs}
            signatures = {
                name: Stage(
                    inputs={n: tensor_type(t) for n, t in each.subgraph.inputs.items()},
                    outputs={n: tensor_type(t) for n, t in each.subgraph.outputs.items()},
                    engines={},
                )
                for name, each in traced.items()
            }
            ports = {name: each.ports for name, each in traced.items()}
            plan, constants = plan_of(draft, signatures, ports, {})
            read = self.model.checkpoint.tensor
            calibration = calibrate(plan, constants, traced, draft.inputs, read, self.work.within)
            return write_calibration(calibration, folder)

        about = {"schedule": draft.name}
        entry = self.checkpoint.made(self.cache, "calibration", self._draft_key(draft), about, make)
        return read_calibration(entry.files)

    def _run_eagerly(self, draft: Draft) -> Mapping[str, np.ndarray]:
        """What the whole run must give, unless that is known for the same checkpoint."""
        self.work.start(f"run {draft.name} eagerly")

        def make(folder: Path) -> Files:
            outputs = record_run(self._loaded, draft.entry, draft.inputs, self.work.within)
            save_arrays(folder / OUTPUTS_FILE, outputs)
            return {OUTPUTS_FILE: folder / OUTPUTS_FILE}

        about = {"schedule": draft.name}
        entry = self.checkpoint.made(self.cache, "run", self._draft_key(draft), about, make)
        outputs: Mapping[str, np.ndarray] = load_file(entry.files[OUTPUTS_FILE].path)
        return outputs

    @cached_property
    def _loaded(self) -> Model:
        """The model with its weights, to be run."""
        return models.load(self.checkpoint.folder, self.request.height, self.request.width)

    def _draft_key(self, draft: Draft) -> str:
        """All that an eager run of a schedule depends on."""
        return cache_key(
            {
                "checkpoint": self.checkpoint.sha256,
                "schedule": draft.entry.schedule.to_yaml(),
                "stages": [stage.identity for stage in draft.entry.stages.values()],
                "toolchain": dict(toolchain()),
            }
        )

    def _weights_file(self) -> Blob:
        """All weights in one file, once for all stages and plans."""
        self.work.start("write the weights")
        weights = self.weights
        key = cache_key(
            {
                "checkpoint": self.checkpoint.sha256,
                "weights": sorted(weights),
                "toolchain": dict(toolchain()),
            }
        )

        def make(folder: Path) -> Files:
            file = folder / WEIGHTS_FILE
            try:
                write_weights(file, weights, self.model.checkpoint.tensor, self.work.within)
            except OSError as error:
                raise ExportError(
                    f"{file}: cannot be written: {error.strerror}: free some space, or set "
                    "KEEPSTEP_CACHE to another folder"
                ) from error
            return {WEIGHTS_FILE: file}

        about = {"model": self.model.name, "dtype": self.request.dtype}
        entry = self.checkpoint.made(self.cache, "weights", key, about, make)
        return entry.files[WEIGHTS_FILE]


def _tasks(request: ExportRequest, stages: Sequence[StageSpec]) -> list[Task]:
    """What is to be done, in order; costs are those of a large UNet, in seconds or so."""
    names = [schedule.name for schedule in request.schedules]
    tasks = [Task("convert time", 8)]
    if request.verify != "none":
        tasks += [Task(f"calibrate {name}", 30) for name in names]
    tasks += [Task(f"convert {stage.name}", stage.cost) for stage in stages]
    tasks += [Task(f"build {stage.name}", stage.cost // 4) for stage in stages]
    if request.verify == "run":
        tasks += [Task(f"run {name} eagerly", 300) for name in names]
    return [*tasks, Task("write the weights", 10)]


def _prefixed(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _tokenizers(model: Model) -> tuple[dict[str, Tokenizer], dict[str, bytes]]:
    """Each tokenizer as one file of the light `tokenizers` package."""
    tokenizers, texts = {}, {}
    for name, tokenizer in model.text.tokenizers.items():
        path = f"{model.text.folders[name]}/tokenizer.json"
        texts[path] = tokenizer.backend_tokenizer.to_str().encode()
        tokenizers[name] = Tokenizer(path, model.text.lengths[name], int(tokenizer.pad_token_id))
    return tokenizers, texts
