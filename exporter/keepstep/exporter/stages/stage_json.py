"""A converted stage as two files: ONNX, and what the ONNX does not say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from keepstep.runtime.format.plan import TensorType

from ..engines.stage import OnnxStage
from ..methods.port import Port

CODE, SIGNATURE = "stage.onnx", "stage.json"


def stage_files(stage: OnnxStage, ports: Mapping[str, Port]) -> dict[str, bytes]:
    """The files of a stage, by name; `ports` may have more than its tensors."""
    signature = {
        "name": stage.name,
        "inputs": _types(stage.inputs),
        "outputs": _types(stage.outputs),
        "weights": _types(stage.weights),
        "macs": stage.macs,
        "ports": {name: asdict(ports[name]) for name in (*stage.inputs, *stage.outputs)},
    }
    return {CODE: stage.onnx, SIGNATURE: json.dumps(signature).encode()}


def stage_from_files(files: Mapping[str, bytes]) -> tuple[OnnxStage, dict[str, Port]]:
    """The stage and the ports that `stage_files` gave these files for."""
    signature = json.loads(files[SIGNATURE])
    stage = OnnxStage(
        name=signature["name"],
        onnx=files[CODE],
        inputs=_read(signature["inputs"]),
        outputs=_read(signature["outputs"]),
        weights=_read(signature["weights"]),
        macs=signature["macs"],
    )
    return stage, {name: Port(**port) for name, port in signature["ports"].items()}


def _types(tensors: Mapping[str, TensorType]) -> dict[str, list[object]]:
    return {name: [t.dtype, list(t.shape)] for name, t in tensors.items()}


def _read(tensors: Mapping[str, list[object]]) -> dict[str, TensorType]:
    return {name: TensorType(dtype, tuple(shape)) for name, (dtype, shape) in tensors.items()}  # type: ignore[arg-type]
