"""The exporter's driver: model + schedules → bundle.

Light until there is something to compile: an export that was made before is put together from
the cache in seconds, without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from keepstep.runtime import Bundle

from .engines import BuildOptions, builder
from .errors import ExportError
from .folder.content import check_same, content_of
from .folder.model_folder import Choice, find_folder
from .request import Checks, DType, ExportRequest
from .schedule.schema import Schedule
from .schedule.settings import Guidance
from .store.bundle_place import check_bundle_target
from .store.bundle_writer import restore_bundle, write_bundle
from .store.cache import Blob, Cache
from .work import Progress


def export(
    model: str | Path,
    schedules: Sequence[str | Path | Schedule],
    out: str | Path,
    backends: Sequence[str] = ("onnxruntime",),
    height: int | None = None,
    width: int | None = None,
    batch: int = 1,
    *,
    dtype: DType = "float32",
    float32: Sequence[str] = (),
    options: BuildOptions | None = None,
    verify: Checks = "run",
    guidance: Guidance | None = None,
    variant: str | None = None,
    without_t5: bool = False,
    cache: Cache | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Compile `model` with each of `schedules` into the bundle `out`.

    model       a diffusers folder or hub id
    schedules   built-in names, paths of YAML files, or `Schedule` objects
    backends    for which engines are built
    height, width   of the picture in pixels; as the model was trained where not given
    batch       pictures a run
    dtype       of weights and products; the sampler, norms and pictures stay in float32
    float32     what else is to stay in float32: stages, or kinds of operations (request.py)
    options     of the engines: target, whether weights are shared or embedded
    verify      `run` compares every stage and a whole run of every schedule with an eager one,
                `stages` every stage only, `none` nothing
    guidance    of all schedules, in place of what they say: `classifier-free`, or `none` for a
                checkpoint that is distilled and samples with the prompt alone
    variant     of the model's weights files, such as `fp16`; the plain ones where not given
    without_t5  leave out that text encoder of Stable Diffusion 3: its tokens are zeros then
    cache       where finished work is kept; the user's own if not given
    Raises `ExportError` and its kinds; the folder `out` is then as it was.
    """
    report = progress or (lambda what, done, total: None)
    out = Path(out)
    check_bundle_target(out)
    options = options or BuildOptions()
    request = ExportRequest(
        model=str(model),
        schedules=[_loaded(s, guidance) for s in schedules],
        builders=[builder(name, options) for name in backends],
        height=height,
        width=width,
        batch=batch,
        dtype=dtype,
        float32=float32,
        embedded=options.weights == "embedded",
        verify=verify,
        choice=Choice(variant, without_t5),
    )
    with cache or Cache.default() as opened:
        model_content = content_of(find_folder(request.model, request.choice), opened, report)
        key = request.key(model_content)
        if entry := opened.get("export", key):
            report("from the cache", 0, 1)
            return restore_bundle(entry.files, out)
        from .bundle_check import verify_bundle
        from .compilation import compile_bundle

        def check(staged: Bundle) -> None:
            verify_bundle(staged, request, eager_calls, report)
            check_same(model_content, opened)

        content, eager_calls = compile_bundle(request, model_content, opened, report)
        bundle = write_bundle(content, out, check)
        files: dict[str, bytes | Path | Blob] = {
            path: (bundle.path / path).read_bytes()
            for path in ("bundle.json", *bundle.manifest.files)
            if path not in content.files
        }
        about = {"model": content.model["name"], "plans": ", ".join(bundle.plans)}
        opened.put("export", key, {**files, **content.files}, about)
    return bundle


def _loaded(schedule: str | Path | Schedule, guidance: Guidance | None) -> Schedule:
    """A schedule, its guidance replaced if one is given."""
    loaded = schedule if isinstance(schedule, Schedule) else Schedule.load(schedule)
    if guidance is None:
        return loaded
    if guidance not in get_args(Guidance):
        raise ExportError(f"guidance is {guidance!r}: known are {', '.join(get_args(Guidance))}")
    return loaded.model_copy(update={"guidance": guidance})
