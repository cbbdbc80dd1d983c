"""Engines from ONNX stages, one file a backend; each is `build(stage) -> bytes`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..onnx_from_trace import OnnxStage
from . import onnxruntime

BUILDERS: Mapping[str, Callable[[OnnxStage], bytes]] = {"onnxruntime": onnxruntime.build}
EXTENSIONS: Mapping[str, str] = {"onnxruntime": "onnx"}
