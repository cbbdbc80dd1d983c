"""NVIDIA GPUs, with ONNX Runtime's CUDA provider: wherever TensorRT cannot run.

It plays the engines of the `onnxruntime` backend. Weights are on the GPU once for all players, as
initializers that sessions use where they are; a session's own scratch memory makes it the player's
alone. All sessions launch on the player's stream, so that the whole loop can be captured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from keepstep.runtime.backends import engine_paths
from keepstep.runtime.backends.cuda_session import CudaSession
from keepstep.runtime.backends.onnxruntime_engine import (
    ORT_ERRORS,
    bound,
    failed,
    load,
    session_options,
    stage_weights,
)
from keepstep.runtime.constants import ConstantPart
from keepstep.runtime.errors import BackendError
from keepstep.runtime.plan import Plan

if TYPE_CHECKING:
    from keepstep.runtime.bundle import Bundle

_PROVIDER = "CUDAExecutionProvider"


class OnnxRuntimeCuda:
    """Opens sessions on the first GPU."""

    def __init__(self) -> None:
        ort.preload_dlls()  # cuBLAS and cuDNN, where they were installed as wheels
        if _PROVIDER not in ort.get_available_providers():
            raise BackendError(
                f"ONNX Runtime {ort.__version__} offers no CUDA provider here, though its files "
                "are there: pip uninstall onnxruntime onnxruntime-gpu, then install the second"
            )

    def open(self, bundle: Bundle, plan: Plan, threads: int | None) -> OnnxRuntimeCudaSession:
        """Load the plan's engines; `threads` is about CPUs and means nothing here."""
        return OnnxRuntimeCudaSession(bundle, plan, engine_paths(bundle, plan, "onnxruntime"))


class OnnxRuntimeCudaSession(CudaSession):
    """One session of ONNX Runtime a stage, all on the player's stream."""

    def __init__(self, bundle: Bundle, plan: Plan, paths: dict[str, str]) -> None:
        super().__init__(bundle, plan)
        self._options = ort.RunOptions()
        # A launch is to return when it is enqueued: what follows is on the same stream.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._weights = {name: stage_weights(bundle, plan, name) for name in paths}
        self._on_device: list[Any] = []  # what sessions read and do not own
        sessions = {name: self._session(bundle, name, path) for name, path in paths.items()}
        self._launches = [
            (sessions[call.stage], bound(sessions[call.stage], stage, addresses, "cuda"))
            for call, addresses in zip(plan.calls, self._addresses, strict=True)
            if (stage := plan.stages[call.stage])
        ]

    def launch(self, call: int) -> None:
        """Enqueue one call."""
        session, binding = self._launches[call]
        try:
            session.run_with_iobinding(binding, self._options)
        except ORT_ERRORS as error:
            raise failed(self._plan, call, error) from error

    def close(self) -> None:
        """Wait, then give everything back."""
        self.wait()
        self._launches, self._weights, self._on_device = [], {}, []
        super().close()

    def _session(self, bundle: Bundle, name: str, path: str) -> Any:
        """Load one engine; its optimiser reads weights on the host, its kernels on the GPU."""
        options = session_options(self._weights[name])
        for tensor, value in self._plan.stages[name].weights.items():
            weight = ort.OrtValue.from_dlpack(self._values.constant(ConstantPart(value)))
            options.add_initializer(tensor, weight)
            self._on_device.append(weight)
        provider = {
            "device_id": "0",
            "user_compute_stream": str(self._stream.handle),
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": "0",
        }
        return load(bundle, self._plan, name, path, options, [(_PROVIDER, provider)])
