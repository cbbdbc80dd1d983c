"""A tiny model and its bundle, made once a session; later exports find its stages in the cache."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from keepstep.exporter.engines import BuildOptions, builder
from keepstep.exporter.folder.content import content_of
from keepstep.exporter.folder.model_folder import find_folder
from keepstep.exporter.request import ExportRequest
from keepstep.exporter.schedule.schema import Schedule, parse
from keepstep.exporter.store.bundle_writer import BundleContent, write_bundle
from keepstep.exporter.store.cache import Cache

# The built-in schedules' stages, with fewer calls: compiled once, both can be exported.
FULL = """
keepstep: 1
name: full
sampler: {scheduler: PNDMScheduler, steps: 4}
calls: {repeat: "F"}
"""
DATO_COCO = """
keepstep: 1
name: dato-coco
sampler: {scheduler: PNDMScheduler, steps: 4}
cache: {branch: 0}
prune: {method: dato, ratio: 0.4, patch: 2}
calls: "Fs.Fs"
"""
CALLS = {"full": "FFFFF", "dato-coco": "Fs.Fs"}
LATENT = 32  # as models/emoji, so that documented shapes fit
KEPT = 1024 - 409  # of 32 × 32 tokens, 40 % are pruned


@cache
def model() -> Path:
    """A diffusers folder named `tiny`."""
    import torch
    from models_for_tests import write_model

    torch.set_num_threads(1)
    folder = write_model(_folder() / "tiny")
    config = folder / "unet/config.json"
    edited = json.loads(config.read_text()) | {"sample_size": LATENT}
    config.write_text(json.dumps(edited))
    return folder


@cache
def bundle() -> Path:
    """The model, exported with the plans `full` and `dato-coco`; tests leave it as it is."""
    write_bundle(content(), _folder() / "bundle")
    return _folder() / "bundle"


@cache
def content() -> BundleContent:
    """What the compiler hands to the bundle's writer."""
    from keepstep.exporter.compilation import compile_bundle

    onnx_runtime = builder("onnxruntime", BuildOptions())
    request = ExportRequest(str(model()), schedules(), [onnx_runtime])
    with Cache.default() as opened:
        known = content_of(find_folder(request.model), opened, lambda what, done, total: None)
        return compile_bundle(request, known, opened, lambda what, done, total: None)[0]


def schedules() -> list[Schedule]:
    """The two schedules of the bundle."""
    return [parse(FULL), parse(DATO_COCO)]


@cache
def _folder() -> Path:
    folder = Path(mkdtemp(prefix="keepstep-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def seal(folder: Path) -> None:
    """Give the files of an altered bundle the sizes and hashes that they now have."""
    manifest = json.loads((folder / "bundle.json").read_text())
    for path, entry in manifest["files"].items():
        data = (folder / path).read_bytes()
        entry["bytes"], entry["sha256"] = len(data), hashlib.sha256(data).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(manifest))


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder: files with their bytes, folders with None."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
