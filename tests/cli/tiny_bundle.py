"""A tiny model and its bundle, made once a session; later exports reuse its compiled stages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from unittest import mock

from keepstep.exporter.schedule import Schedule
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
KEPT = 154  # of 16 × 16 tokens, 40 % are pruned


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
        return self.factories.setdefault((model.name, model.latent_shape, batch), fresh)

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
    return write_model(_folder() / "tiny")


@cache
def bundle() -> Path:
    """The model, exported with the plans `full` and `dato-coco`; tests leave it as it is."""
    out = _folder() / "bundle"
    with compiler().in_place():
        compiler().module.export(model(), schedules(), out)
    return out


def schedules() -> list[Schedule]:
    """The two schedules of the bundle."""
    from keepstep.exporter.schedule import parse

    return [parse(FULL), parse(DATO_COCO)]


@cache
def _folder() -> Path:
    return Path(mkdtemp(prefix="keepstep-tests-"))


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
