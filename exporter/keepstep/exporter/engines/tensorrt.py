"""The TensorRT-RTX and TensorRT engines: one builder, the library chosen by import.

Networks are strongly typed: every tensor keeps the type that the ONNX code gives it.
Shared weights are inputs of the engine, so that it holds code alone; embedded ones are handed to
the parser in memory, since an ONNX file holds no more than 2 GiB.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from keepstep.runtime.backends.registry import how_to_install
from keepstep.runtime.backends.tensorrt_diagnostics import TENSORRT_DTYPES, tensorrt_log
from keepstep.runtime.format.plan import TensorType
from keepstep.runtime.gpu import NoGpuError, gpu_name

from ..errors import ExportError
from .initializers import Source, checked, handed_over
from .interruptible import interruptible
from .options import BuildOptions, check_compute_capabilities
from .stage import OnnxStage, check_interface
from .tensorrt_errors import build_error, parser_error


@dataclass(frozen=True)
class _Library:
    module: str
    title: str
    portable: bool  # builds for GPUs that it is told of, not for the one at hand


_LIBRARIES: Mapping[str, _Library] = {
    "tensorrt-rtx": _Library("tensorrt_rtx", "TensorRT-RTX", portable=True),
    "tensorrt": _Library("tensorrt", "TensorRT", portable=False),
}


class TensorRTBuilder:
    """Builds engines with one of the two libraries; several of them share its one log."""

    extension = "engine"
    at_once = 1  # the library uses all cores, and one log
    aligned = True
    plays_here = False  # TensorRT-RTX builds for GPUs elsewhere

    def __init__(self, backend: str, options: BuildOptions) -> None:
        """Import the library and check the options; raises `ExportError`."""
        self.backend = backend
        self._library = _LIBRARIES[backend]
        self._trt = _imported(backend)
        self._title = f"{self._library.title} {self._trt.__version__}"
        self._options = options
        names = self._trt.ComputeCapability.__members__ if self._library.portable else ()
        self._targets = check_compute_capabilities(options.compute_capabilities, names, self._title)
        self._gpu = None if self._library.portable else _gpu()

    def identity(self) -> Mapping[str, object]:
        """Library, target and options: engines run on the operating system that built them."""
        return {
            "library": self._title,
            "platform": f"{platform.system()} {platform.machine()}",
            "gpu": self._gpu,
            "compute_capabilities": list(self._targets),
            "weights": self._options.weights,
            "weight_streaming": self._options.weight_streaming,
            "tf32": self._options.tf32,
        }

    def build(self, stage: OnnxStage, weights: Source | None) -> bytes:
        """The serialized engine; raises `ExportError` for what the library can't build."""
        assert (weights is not None) == (self._options.weights == "embedded")
        monitor = _monitor(self._trt)
        return interruptible(lambda: self._build(stage, weights, monitor), monitor.cancel)

    def _build(self, stage: OnnxStage, weights: Source | None, monitor: Any) -> bytes:
        log = tensorrt_log(self._trt)
        log.errors.clear()
        try:
            builder = self._trt.Builder(log)
        except TypeError as error:  # how the bindings say that the library gave none
            raise build_error(stage.name, self._title, log.errors) from error
        typed = 1 << int(self._trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(typed)
        parser = self._trt.OnnxParser(network, log)
        # The parser and the network read embedded weights where they are, until the end.
        arrays = {}
        if weights is not None:
            arrays = {name: checked(name, t, weights(name)) for name, t in stage.weights.items()}
        if not _parse(parser, stage, arrays):
            errors = [parser.get_error(i) for i in range(parser.num_errors)]
            raise parser_error(stage.name, self._title, errors)
        check_interface(
            f"{self._title} network of stage '{stage.name}'",
            _interface(network),
            (stage.inputs if arrays else {**stage.inputs, **stage.weights}, stage.outputs),
        )
        engine = builder.build_serialized_network(network, self._config(builder, monitor))
        if engine is None:
            raise build_error(stage.name, self._title, log.errors)
        return bytes(engine)

    def _config(self, builder: Any, monitor: Any) -> Any:
        config = builder.create_builder_config()
        config.progress_monitor = monitor
        flags = self._trt.BuilderFlag
        if not self._options.tf32:
            config.clear_flag(flags.TF32)  # set by default
        if self._options.weight_streaming:
            config.set_flag(flags.WEIGHT_STREAMING)
        elif hasattr(flags, "REQUIRE_USER_ALLOCATION"):
            # TensorRT-RTX: what takes no memory of its own can be captured in a CUDA graph.
            config.set_flag(flags.REQUIRE_USER_ALLOCATION)
        if self._targets:
            config.num_compute_capabilities = len(self._targets)
            for i, name in enumerate(self._targets.values()):
                config.set_compute_capability(self._trt.ComputeCapability.__members__[name], i)
        return config


def _imported(backend: str) -> Any:
    library = _LIBRARIES[backend]
    try:
        return import_module(library.module)
    except (ImportError, OSError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == library.module
        found = "is not installed" if missing else f"is installed but cannot be loaded ({error})"
        raise ExportError(
            f"{library.title} {found}: {how_to_install(backend)}, or choose another backend"
        ) from error


def _gpu() -> str:
    try:
        return gpu_name()
    except NoGpuError as error:
        raise ExportError(
            f"{error}: TensorRT builds for the GPU at hand; build there, or for tensorrt-rtx, "
            "which needs none"
        ) from error


def _parse(parser: Any, stage: OnnxStage, arrays: Mapping[str, np.ndarray]) -> bool:
    if not arrays:
        return bool(parser.parse(stage.onnx))
    return bool(
        parser.load_model_proto(handed_over(stage))
        and all(parser.load_initializer(n, a.ctypes.data, a.nbytes) for n, a in arrays.items())
        and parser.parse_model_proto()
    )


def _interface(network: Any) -> tuple[dict[str, TensorType], dict[str, TensorType]]:
    """Inputs and outputs of a network."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    return _types(inputs), _types(outputs)


def _types(tensors: list[Any]) -> dict[str, TensorType]:
    return {
        tensor.name: TensorType(
            TENSORRT_DTYPES.get(tensor.dtype.name, tensor.dtype.name), tuple(tensor.shape)
        )
        for tensor in tensors
    }


def _monitor(trt: Any) -> Any:
    """What the library asks after each step whether to go on."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._cancelled = False

        def cancel(self) -> None:
            self._cancelled = True

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            pass

        def step_complete(self, phase: str, step: int) -> bool:
            return not self._cancelled

        def phase_finish(self, phase: str) -> None:
            pass

    return Monitor()
