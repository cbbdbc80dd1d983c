"""NVIDIA GPUs, with ONNX Runtime's CUDA provider: wherever TensorRT cannot run.

It plays the engines of the `onnxruntime` backend. Weights are on the GPU once for all players, as
initializers that sessions use where they are; a session's own scratch memory makes it the player's
alone. All sessions launch on the player's stream, so that the whole loop can be captured.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Any

import onnxruntime as ort

from keepstep.runtime.backends import engine_paths
from keepstep.runtime.backends.cuda_session import CudaSession, exclusive
from keepstep.runtime.backends.onnxruntime_engine import (
    ORT_ERRORS,
    failed,
    launches,
    load,
    session_options,
    stage_weights,
)
from keepstep.runtime.errors import BackendError
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.format.plan import Plan
from keepstep.runtime.memory.constants import ConstantPart
from keepstep.runtime.quoting import quote_names

_PROVIDER = "CUDAExecutionProvider"


class OnnxRuntimeCuda:
    """Opens sessions on the first GPU."""

    def __init__(self) -> None:
        with redirect_stdout(sys.stderr):  # cuBLAS and cuDNN, where they were installed as wheels
            ort.preload_dlls()
        if _PROVIDER not in ort.get_available_providers():
            raise BackendError(
                f"ONNX Runtime {ort.__version__} offers no CUDA provider here, though its files "
                "are there: pip uninstall onnxruntime onnxruntime-gpu, then install the second"
            )

    def open(self, bundle: BundleFolder, plan: Plan, threads: int | None) -> OnnxRuntimeCudaSession:
        """Load the plan's engines; `threads` is about CPUs and means nothing here."""
        paths = engine_paths(bundle, plan, "onnxruntime")
        with exclusive:
            return OnnxRuntimeCudaSession(bundle, plan, paths)


class OnnxRuntimeCudaSession(CudaSession):
    """One session of ONNX Runtime a stage, all on the player's stream."""

    runs_before_capture = 2  # its memory for a stream is taken in the second run

    def __init__(self, bundle: BundleFolder, plan: Plan, paths: dict[str, str]) -> None:
        super().__init__(bundle, plan)
        self._options = ort.RunOptions()
        # A launch is to return when it is enqueued: what follows is on the same stream.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._weights = {name: stage_weights(bundle, plan, name) for name in paths}
        self._on_device: list[Any] = []  # what sessions read and do not own
        self._on_cpu: list[str] = []  # stages with work for the CPU, which a graph does not repeat
        sessions = {name: self._session(bundle, name, path) for name, path in paths.items()}
        self._launches = launches(plan, sessions, self._addresses, "cuda")

    def launch(self, call: int) -> None:
        """Enqueue one call."""
        session, binding = self._launches[call]
        try:
            session.run_with_iobinding(binding, self._options)
        except ORT_ERRORS as error:
            raise failed(self._plan, call, error) from error

    def check_capturable(self) -> None:
        """A graph repeats nothing that ONNX Runtime does on the CPU."""
        if self._on_cpu:
            raise BackendError(f"ONNX Runtime has parts of {quote_names(self._on_cpu)} on the CPU")

    def close_engines(self) -> None:
        """Sessions, then what they read."""
        self._launches, self._weights, self._on_device = [], {}, []

    def _session(self, bundle: BundleFolder, name: str, path: str) -> Any:
        """Load one engine; its optimiser reads weights on the host, its kernels on the GPU."""
        options = session_options(self._weights[name])
        options.enable_mem_pattern = False  # a plan of memory that is only taken in a later run
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        # It turns initializers around under their names: what lies on the GPU would not follow.
        options.add_session_config_entry(
            "optimization.disable_specified_optimizers",
            "TransposeOptimizer;TransposeOptimizer_CPUExecutionProvider",
        )
        for tensor, value in self._plan.stages[name].weights.items():
            if self._plan.values[value].type.dtype in ("float32", "float16"):
                weight = ort.OrtValue.from_dlpack(self._values.constant(ConstantPart(value)))
                options.add_initializer(tensor, weight)
                self._on_device.append(weight)
        session = load(
            bundle,
            self._plan,
            name,
            path,
            options,
            _PROVIDER,
            device_id="0",
            user_compute_stream=str(self._stream.handle),
            arena_extend_strategy="kSameAsRequested",
            cudnn_conv_algo_search="HEURISTIC",
            use_tf32="0",
        )
        if not _all_on_gpu(session):
            self._on_cpu.append(name)
        return session


def _all_on_gpu(session: Any) -> bool:
    """Whether every node was given to the GPU; older libraries do not say."""
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    return tell is not None and all(part.ep_name == _PROVIDER for part in tell())
