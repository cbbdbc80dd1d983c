"""The GPU backends, as far as they go without one: the real libraries, and what they refuse.

Nothing stands in for CUDA here. What needs a GPU is checked by `benchmarks/gpu.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plans.make import mutated
from runtime.test_addresses import wide_history
from runtime.toy_bundle import write_bundle

from keepstep.runtime import BackendError, Bundle
from keepstep.runtime.gpu import gpu_fault

pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
pytestmark = pytest.mark.skipif(gpu_fault() is None, reason="there is a GPU here")


def test_what_cuda_refuses_is_told_in_its_own_words() -> None:
    from keepstep.runtime.backends.cuda import DeviceMemory, Stream, device

    for make in (device, Stream, lambda: DeviceMemory(16)):
        with pytest.raises(BackendError, match=r"CUDA could not .*\(cudaError\w+\)"):
            make()


def for_tensorrt(plan: dict[str, Any]) -> None:
    wide_history(plan)
    for stage in plan["stages"].values():
        stage["engines"]["tensorrt-rtx"] = stage["engines"]["onnxruntime"]


def test_tensorrt_rtx_without_a_gpu_ends_with_the_reason_and_not_with_a_crash(
    tmp_path: Path,
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    from plans.make import text_of

    from keepstep.runtime.backends.tensorrt import TensorRtx
    from keepstep.runtime.format.plan_json import plan_from_json

    bundle = Bundle.open(write_bundle(tmp_path / "toy"))
    plan = plan_from_json(text_of(mutated(for_tensorrt)), "toy")
    with pytest.raises(BackendError, match="CUDA could not find a GPU"):
        TensorRtx().open(bundle, plan, None)
