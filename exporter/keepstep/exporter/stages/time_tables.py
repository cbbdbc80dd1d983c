"""Timestep tables: what the network derives from the timestep alone, computed once at export."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from ..engines.stage import OnnxStage
from .weights import as_array, make_weight

_ERRORS_ONLY = 3


def time_tables(
    stage: OnnxStage, read: Callable[[str], Tensor], timesteps: Sequence[float]
) -> dict[str, np.ndarray]:
    """Name → float32 (calls · lead, …): `lead` rows a call, call after call.

    stage   the `time` stage in float32; it takes a timestep (1,), its outputs have lead rows
    read    gives tensors of the checkpoint
    """
    import onnxruntime as ort

    if not stage.outputs:
        return {}

    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    session = ort.InferenceSession(stage.onnx, options, providers=["CPUExecutionProvider"])
    weights = {name: as_array(make_weight(name, read)) for name in stage.weights}
    rows = [
        session.run([*stage.outputs], {"timestep": np.array([t], np.float32), **weights})
        for t in timesteps
    ]
    columns = zip(*rows, strict=True)
    return {
        name: np.concatenate(column) for name, column in zip(stage.outputs, columns, strict=True)
    }
