"""Every distinct stage of a set of schedules, converted and built once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from keepstep.runtime.plan import Stage, TensorType

from . import engine_from_onnx
from .lowering import LoweredSchedule
from .onnx_from_trace import onnx_from_subgraph
from .passes.macs import count_macs
from .stages import StageFactory, StageSource, window_for

Progress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many


@dataclass(frozen=True)
class CompiledStage:
    """A stage with its engines: what goes into plans, and what goes into files."""

    stage: Stage
    weights: Mapping[str, np.ndarray]
    files: Mapping[str, bytes]  # path in the bundle → content


def compile_stages(
    factory: StageFactory,
    schedules: Sequence[LoweredSchedule],
    backends: Sequence[str],
    report: Progress,
) -> dict[Hashable, CompiledStage]:
    """Compile what `schedules` need. Keys: `text`, `(prompt, window)`, `(decode, window)`, and
    the `NetworkVariant` of every network stage."""
    wanted: dict[Hashable, Callable[[], StageSource]] = {"text": factory.text}
    for schedule in schedules:
        window = window_for(len(schedule.variants))
        wanted["prompt", window] = partial(factory.prompt, window)
        wanted["decode", window] = partial(factory.decode, window)
        for variant in schedule.variants:
            wanted[variant] = partial(factory.network, variant)
    compiled: dict[Hashable, CompiledStage] = {}
    for i, (key, make) in enumerate(wanted.items()):
        report("trace and convert stages", i, len(wanted))
        compiled[key] = _compile(make(), backends)
    report("trace and convert stages", len(wanted), len(wanted))
    return compiled


def _compile(source: StageSource, backends: Sequence[str]) -> CompiledStage:
    stage = onnx_from_subgraph(source.subgraph, source.tensors)
    engines, files = {}, {}
    for backend in backends:
        data = engine_from_onnx.BUILDERS[backend](stage)
        digest = hashlib.sha256(data).hexdigest()[:12]
        path = f"stages/{source.name}-{digest}.{engine_from_onnx.EXTENSIONS[backend]}"
        engines[backend], files[path] = path, data
    signature = Stage(
        inputs={name: _type(t) for name, t in source.subgraph.inputs.items()},
        outputs={name: _type(t) for name, t in source.subgraph.outputs.items()},
        weights={name: name for name in stage.weights},
        macs=count_macs(source.subgraph),
        engines=engines,
    )
    return CompiledStage(signature, stage.weights, files)


def _type(tensor: torch.Tensor) -> TensorType:
    return TensorType(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
