"""The ONNX Runtime engine: the ONNX file itself, with attention as one operator.

Shared weights are initializers "in a file" that does not exist: the runtime hands them over in
memory (`SessionOptions.add_external_initializers`), one file for all stages. They must be
initializers, not inputs, or ONNX Runtime would not prepack them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version

from .initializers import Source, embedded, handed_over
from .options import BuildOptions
from .stage import OnnxStage


@dataclass(frozen=True)
class OnnxRuntimeBuilder:
    """Writes ONNX files; needs no ONNX Runtime, and no other option than where weights are."""

    options: BuildOptions
    backend: str = "onnxruntime"
    extension: str = "onnx"
    at_once: int = 64  # it only writes a file
    aligned: bool = False
    plays_here: bool = True

    def identity(self) -> Mapping[str, object]:
        """What wrote the file, and where weights are."""
        return {
            "library": f"onnx-ir {version('onnx-ir')}, onnxscript {version('onnxscript')}",
            "weights": self.options.weights,
        }

    def build(self, stage: OnnxStage, weights: Source | None) -> bytes:
        """The bytes of the ONNX file."""
        from .attention import fuse_attention  # its library is not for exports that build nothing

        fused = replace(stage, onnx=fuse_attention(stage.onnx))
        return handed_over(fused) if weights is None else embedded(fused, weights)
