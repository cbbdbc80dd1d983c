"""A converted stage as two files: ONNX, and what the ONNX does not say."""

from __future__ import annotations

import json
from collections.abc import Mapping

from keepstep.runtime.format.plan import TensorType

from ..engines.stage import OnnxStage

CODE, SIGNATURE = "stage.onnx", "stage.json"


def stage_files(stage: OnnxStage) -> dict[str, bytes]:
    """The files of a stage, by name."""
    signature = {
        "name": stage.name,
        "inputs": _types(stage.inputs),
        "outputs": _types(stage.outputs),
        "weights": _types(stage.weights),
        "macs": stage.macs,
    }
    return {CODE: stage.onnx, SIGNATURE: json.dumps(signature).encode()}


def stage_from_files(files: Mapping[str, bytes]) -> OnnxStage:
    """The stage that `stage_files` gave these files for."""
    signature = json.loads(files[SIGNATURE])
    return OnnxStage(
        name=signature["name"],
        onnx=files[CODE],
        inputs=_read(signature["inputs"]),
        outputs=_read(signature["outputs"]),
        weights=_read(signature["weights"]),
        macs=signature["macs"],
    )


def _types(tensors: Mapping[str, TensorType]) -> dict[str, list[object]]:
    return {name: [t.dtype, list(t.shape)] for name, t in tensors.items()}


def _read(tensors: Mapping[str, list[object]]) -> dict[str, TensorType]:
    return {name: TensorType(dtype, tuple(shape)) for name, (dtype, shape) in tensors.items()}  # type: ignore[arg-type]
