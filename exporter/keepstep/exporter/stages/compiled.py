"""Stages, converted and built; whatever the cache has is taken from there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from keepstep.runtime.format.plan import Stage

from ..engines import Builder
from ..engines.stage import OnnxStage
from ..folder.content import Content
from ..graph.extract import Subgraph
from ..graph.precision import lower_precision, nodes_of_weights
from ..methods.port import Port
from ..models.checkpoint import FLOATS
from ..store.cache import Blob, Cache, Files, cache_key
from ..toolchain import toolchain
from .onnx_from_trace import onnx_from_subgraph
from .spec import StageSpec
from .stage_json import stage_files, stage_from_files
from .weights import as_array, make_weight


@dataclass(frozen=True)
class Precision:
    """dtype     of the products: float32, float16 or bfloat16
    kept      stage → nodes that stay in float32
    """

    dtype: str
    kept: Mapping[StageSpec, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class ConvertedStage:
    """A stage as ONNX code, and how its tensors are bound. A model may have no use for a stage:
    then it has no outputs and no code."""

    code: OnnxStage
    ports: Mapping[str, Port]


@dataclass(frozen=True)
class CompiledStage:
    """A stage with its engines: what goes into plans, and what goes into files."""

    stage: Stage
    converted: ConvertedStage
    files: Mapping[str, Blob]  # path in the bundle → engine


class StageCompiler:
    """Compiles stages; each step's result is kept in the cache."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def convert(self, stage: StageSpec, precision: Precision) -> ConvertedStage:
        """The stage as ONNX; traced only where the cache does not have it."""
        kept = sorted(precision.kept.get(stage, ()))
        dtype = "float32" if stage.float32 else precision.dtype
        wide = stage.wide if dtype == "float16" else ()
        key = cache_key(
            {
                "stage": stage.identity,
                "dtype": dtype,
                "kept": kept,
                "wide": list(wide),
                "toolchain": dict(toolchain()),
            }
        )

        def lowered() -> Subgraph:
            subgraph, ports = stage.subgraph, stage.ports
            if dtype == "float32":
                return subgraph
            return lower_precision(
                subgraph,
                FLOATS[dtype],
                half_inputs=[name for name in subgraph.inputs if ports[name].lowered],
                half_outputs=[name for name in subgraph.outputs if ports[name].lowered],
                kept={*kept, *nodes_of_weights(subgraph, wide)},
            )

        def make(_: Path) -> Files:
            if not stage.subgraph.outputs:
                return stage_files(OnnxStage(stage.name, b"", {}, {}, {}, 0), {})
            return stage_files(onnx_from_subgraph(stage.name, lowered()), stage.ports)

        entry = self._cache.made("stage", key, {"stage": stage.name, "dtype": dtype}, make)
        files = {name: blob.path.read_bytes() for name, blob in entry.files.items()}
        code, ports = stage_from_files(files)
        return ConvertedStage(replace(code, subgraph=lowered), ports)

    def builds(
        self,
        converted: Iterable[ConvertedStage],
        builders: Sequence[Builder],
        embedded: EmbeddedWeights | None,
    ) -> Iterator[CompiledStage]:
        """The stages with their engines, in order; as many are built at once as builders allow."""
        at_once = min(builder.at_once for builder in builders)
        if at_once == 1:  # then in the main thread, which alone is told of an interrupt
            yield from (self.build(stage, builders, embedded) for stage in converted)
            return
        with ThreadPoolExecutor(at_once) as pool:
            pending = [pool.submit(self.build, stage, builders, embedded) for stage in converted]
            try:
                yield from (each.result() for each in pending)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def build(
        self,
        converted: ConvertedStage,
        builders: Sequence[Builder],
        embedded: EmbeddedWeights | None,
    ) -> CompiledStage:
        """The stage's engines; `embedded` weights are baked into them."""
        code = converted.code
        engines, files = {}, {}
        for builder in builders:
            blob = self._engine(code, builder, embedded)
            path = f"stages/{code.name}-{blob.sha256[:12]}.{builder.extension}"
            engines[builder.backend], files[path] = path, blob
        stage = Stage(
            inputs=code.inputs,
            outputs=code.outputs,
            weights={} if embedded else {name: name for name in code.weights},
            macs=code.macs,
            engines=engines,
        )
        return CompiledStage(stage, converted, files)

    def _engine(self, code: OnnxStage, builder: Builder, embedded: EmbeddedWeights | None) -> Blob:
        key = cache_key(
            {
                "onnx": hashlib.sha256(code.onnx).hexdigest(),
                "builder": {"backend": builder.backend, **builder.identity()},
                "weights": embedded and embedded.checkpoint.sha256,
                "keepstep": toolchain()["keepstep"],
            }
        )
        about = {"stage": code.name, "backend": builder.backend}

        def make(_: Path) -> Files:
            return {"engine": builder.build(code, embedded.array if embedded else None)}

        if embedded:
            entry = embedded.checkpoint.made(self._cache, "engine", key, about, make)
        else:
            entry = self._cache.made("engine", key, about, make)
        return entry.files["engine"]


@dataclass(frozen=True)
class EmbeddedWeights:
    """Weights that are baked into engines.

    checkpoint   the folder that they are read from
    read         gives its tensors
    """

    checkpoint: Content
    read: Callable[[str], Tensor]

    def array(self, name: str) -> np.ndarray:
        """The weight `name` as an array; bfloat16 as uint16."""
        with torch.no_grad():
            return as_array(make_weight(name, self.read))
