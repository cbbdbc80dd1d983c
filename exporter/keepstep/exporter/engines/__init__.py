"""Engines from converted stages, one file a backend.

A library is imported when its builder is asked for, never before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from keepstep.runtime.quoting import did_you_mean, quote, quote_names

from ..errors import ExportError
from .aotinductor import AotInductorBuilder
from .onnxruntime import OnnxRuntimeBuilder
from .options import BuildOptions
from .stage import OnnxStage
from .tensorrt import TensorRTBuilder

__all__ = ["BACKENDS", "BuildOptions", "Builder", "OnnxStage", "builder"]

BACKENDS = ("onnxruntime", "tensorrt-rtx", "tensorrt", "aotinductor", "aotinductor-cuda")


class Builder(Protocol):
    """What turns stages into engines for one backend."""

    @property
    def backend(self) -> str:
        """The key under `engines` of a stage in a plan."""

    @property
    def extension(self) -> str:
        """Of the engine's file, without the dot."""

    @property
    def at_once(self) -> int:
        """How many engines may be built at the same time on this machine."""

    @property
    def aligned(self) -> bool:
        """Whether its engines want tensors to begin on multiples of `ALIGNMENT`."""

    @property
    def plays_here(self) -> bool:
        """Whether its engines are sure to run on this machine, so that a bundle can be checked."""

    def identity(self) -> Mapping[str, object]:
        """All that an engine's bytes depend on beside the ONNX code and the weights, as JSON."""

    def build(self, stage: OnnxStage, weights: Callable[[str], np.ndarray] | None) -> bytes:
        """The engine of `stage`.

        weights   arrays by name, for the options' "embedded" (bfloat16 as uint16); None for
                  "shared": they stay outside
        Raises `ExportError`.
        """


def builder(backend: str, options: BuildOptions) -> Builder:
    """The builder of a backend.

    Raises `ExportError` for a backend that is unknown, not installed or cannot be loaded, and for
    options that it does not know.
    """
    if backend not in BACKENDS:
        raise ExportError(
            f"no engines can be built for {quote(backend)}{did_you_mean(backend, BACKENDS)}: "
            f"known are {quote_names(BACKENDS)}"
        )
    if backend == "onnxruntime":
        return OnnxRuntimeBuilder(options)
    if backend.startswith("aotinductor"):
        return AotInductorBuilder(backend, options)
    return TensorRTBuilder(backend, options)
