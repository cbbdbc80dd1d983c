"""Bundles with one fault each: what `verify` is there to find."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from safetensors.numpy import load_file, save_file
from torch import Tensor

from keepstep.exporter import models
from keepstep.exporter.check.recorded_run import EagerCalls
from keepstep.exporter.check.verify import recorded_inputs
from keepstep.exporter.methods import attach
from keepstep.exporter.methods.dato import Selection, TokenCounts, select
from keepstep.exporter.plan.lowering import lower_schedule
from keepstep.exporter.schedule.schema import Schedule, parse
from keepstep.exporter.stages import factory as stages
from keepstep.exporter.stages import networks
from keepstep.exporter.stages.factory import StageFactory
from keepstep.exporter.stages.networks import NetworkCall, Predictions, joined
from keepstep.runtime import Bundle

PLAN = "faulty"
CALLS = "FFsF.ss"
RUNNING = CALLS.replace(".", "")
FIRST = 2  # call of the plan that is the network's first: behind text and prompt


def schedule() -> Schedule:
    lines = (
        "keepstep: 1",
        f"name: {PLAN}",
        f"sampler: {{scheduler: DDIMScheduler, steps: {len(CALLS)}, clip_sample: false}}",
        "cache: {branch: 0}",
        "prune: {ratio: 0.4}",
        f"calls: {CALLS}",
    )
    return parse("\n".join(lines))


def eager_calls(folder: Path, bundle: Bundle) -> EagerCalls:
    """What makes the eager calls of the plan again."""
    model = models.load(str(folder), weights=False)
    entry = lower_schedule(model, StageFactory(model, 1), schedule())
    inputs = {name: a.copy() for name, a in recorded_inputs(bundle.golden(PLAN)).items()}
    return EagerCalls(lambda: models.load(str(folder)), entry, inputs)


# Faults of a finished bundle: its plan, its weights, its engines.


def edited(bundle: Bundle, place: Path, edit: Callable[[Path], None]) -> Bundle:
    """A copy of a bundle that `edit` has changed, with the hashes of what is in it now."""
    shutil.copytree(bundle.path, place)
    edit(place)
    path = place / "bundle.json"
    manifest = json.loads(path.read_text())
    for name in manifest["files"]:
        data = (place / name).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        manifest["files"][name] = {"bytes": len(data), "sha256": digest}
    path.write_text(json.dumps(manifest))
    return Bundle.open(place)


def next_row(call: int, tensor: str) -> Callable[[Path], None]:
    """One call reads the row behind its own."""

    def edit(place: Path) -> None:
        path = place / f"plans/{PLAN}.json"
        plan = json.loads(path.read_text())
        reads = plan["calls"][call]["reads"]
        name = next(name for name in reads if name.startswith(tensor))
        reads[name][1] += 1
        path.write_text(json.dumps(plan))

    return edit


def with_weight(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """One weight is another."""

    def edit(place: Path) -> None:
        path = place / "weights.safetensors"
        weights = load_file(path)
        (found,) = [key for key in weights if key.partition(":")[0] == name]
        weights[found] = np.ascontiguousarray(change(weights[found]), weights[found].dtype)
        path.unlink()  # a link to the cache's own
        save_file(weights, path)

    return edit


def as_int8(weight: np.ndarray) -> np.ndarray:
    step = np.abs(weight).max() / 127
    return np.round(weight / step) * step


def without_a_cast(place: Path) -> None:
    """One product of a stage computes in half precision: what casts it back is missing."""
    plan = json.loads((place / f"plans/{PLAN}.json").read_text())
    stage = next(name for name in plan["stages"] if name.startswith("shallow"))
    path = place / plan["stages"][stage]["engines"]["onnxruntime"]
    model = ir.load(path)
    node = [n for n in model.graph if n.op_type == "Conv"][-1]
    for i, value in enumerate(node.inputs):
        if value is not None:
            half = _cast(value, value, ir.DataType.FLOAT16)
            back = _cast(half.outputs[0], value, ir.DataType.FLOAT)
            model.graph.insert_before(node, [half, back])
            node.replace_input_with(i, back.outputs[0])
    path.unlink()
    ir.save(model, path)


def _cast(value: ir.Value, like: ir.Value, dtype: ir.DataType) -> ir.Node:
    node = ir.node("Cast", [value], {"to": int(dtype)})
    node.outputs[0].shape, node.outputs[0].type = like.shape, ir.TensorType(dtype)
    return node


# Faults of the exporter: what is traced is not what runs eagerly.


@contextmanager
def tracing(module: Any, name: str, wrong: object) -> Iterator[None]:
    """While active, traces of the network find `wrong` under a name of `module`."""
    if module is stages:  # what is only there to be traced
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, wrong)
            yield
        return
    right = stages.trace

    def trace(*arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as inside:
            inside.setattr(module, name, wrong)
            return right(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "trace", trace)
        yield


def one_further(x: Tensor, index: Tensor) -> Tensor:
    """A gather of the tokens behind those that are meant."""
    return gather_tokens(x, (index + 1) % x.shape[1])


gather_tokens = attach.gather_tokens


def one_more(x: Tensor, score: Tensor, counts: TokenCounts, recover: str) -> Selection:
    """A selection that prunes one token too many."""
    return select(x, score, replace(counts, pruned=counts.pruned + 1), recover)


def halves_exchanged(conditions: dict[str, Tensor]) -> dict[str, Tensor]:
    """The conditional half first."""
    other = {f"negative_{n}" if f"negative_{n}" in conditions else n: n for n in conditions}
    exchanged = {
        name: conditions[name.removeprefix("negative_")]
        if name.startswith("negative_")
        else conditions.get(f"negative_{name}", conditions[name])
        for name in other.keys() | conditions.keys()
    }
    return joined(exchanged)


class ScoresOfTheOtherHalf(NetworkCall):
    """Scores tokens by the change of the conditional prediction."""

    def forward(self, history: Tensor, **given: Tensor) -> tuple[Tensor, ...]:
        def last(*_: Tensor) -> Predictions:
            return Predictions(history[0, 1], history[1, 1])

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(networks, "Predictions", last)
            return super().forward(history=history, **given)
