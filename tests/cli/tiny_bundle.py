"""A tiny model and its bundle, made once a session; later exports reuse its compiled stages."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from unittest import mock

from keepstep.exporter.bundle_writer import BundleContent, write_bundle
from keepstep.exporter.schedule import Schedule, parse
from keepstep.exporter.stages import StageFactory

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


class Compiler:
    """The compiler with a memory: what was traced and converted once is not done again."""

    def __init__(self) -> None:
        from keepstep.exporter import compiler

        self.module: Any = compiler
        self.compile_stages = compiler.compile_stages
        self.factories: dict[object, StageFactory] = {}
        self.stages: dict[object, dict[Hashable, Any]] = {}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let `keepstep.exporter.compiler` use the memory."""
        with (
            mock.patch.object(self.module, "StageFactory", self._factory),
            mock.patch.object(self.module, "compile_stages", self._compile),
        ):
            yield

    def _factory(self, model: Any, batch: int) -> StageFactory:
        fresh = StageFactory(model, batch)
        return self.factories.setdefault((model.latent_shape, batch), fresh)

    def _compile(self, factory: Any, lowered: Sequence[Any], backends: Any, report: Any) -> Any:
        known = self.stages.setdefault(id(factory), {})
        missing = [entry for entry in lowered if not set(entry.variants) <= known.keys()]
        if missing:
            known |= self.compile_stages(factory, missing, backends, report)
        report("trace and convert stages", 1, 1)
        return known_part(known, lowered)


def known_part(known: Mapping[Hashable, Any], lowered: Sequence[Any]) -> dict[Hashable, Any]:
    """The stages that these schedules need."""
    variants = {variant for entry in lowered for variant in entry.variants}
    return {key: stage for key, stage in known.items() if key in variants or not _network(key)}


def _network(key: Hashable) -> bool:
    return hasattr(key, "prune")


@cache
def compiler() -> Compiler:
    """The one that all tests share."""
    return Compiler()


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
    module = compiler().module
    with compiler().in_place(), mock.patch.object(module, "write_bundle") as writer:
        module.export(model(), schedules(), _folder() / "unwritten")
    handed_over: BundleContent = writer.call_args.args[0]
    return handed_over


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
