"""A converted stage as two files: ONNX, and what the ONNX does not say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from keepstep.runtime.format.signature import signature_data, signature_from_data

from ..engines.stage import OnnxStage
from ..methods.port import Port

CODE, SIGNATURE = "stage.onnx", "stage.json"


def stage_files(stage: OnnxStage, ports: Mapping[str, Port]) -> dict[str, bytes]:
    """The files of a stage, by name; `ports` may have more than its tensors."""
    signature = {
        "name": stage.name,
        "inputs": signature_data(stage.inputs),
        "outputs": signature_data(stage.outputs),
        "weights": signature_data(stage.weights),
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
        inputs=signature_from_data(signature["inputs"]),
        outputs=signature_from_data(signature["outputs"]),
        weights=signature_from_data(signature["weights"]),
        macs=signature["macs"],
    )
    return stage, {name: Port(**port) for name, port in signature["ports"].items()}
