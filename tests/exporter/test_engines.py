"""Builders: ONNX stages become engines, options are honoured, and what can't be built is told."""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest
from exporter.small_stages import EMBEDDED, ONNX_TYPES, RTX, SHARED, f32, layer, numbers, relu

from keepstep.exporter.engines import BACKENDS, BuildOptions, OnnxStage, builder, interruptible
from keepstep.exporter.engines.onnxruntime import OnnxRuntimeBuilder
from keepstep.exporter.errors import ExportError
from keepstep.exporter.stages import compiled
from keepstep.exporter.stages.compiled import ConvertedStage, StageCompiler
from keepstep.exporter.store.cache import Cache
from keepstep.runtime.format.plan import TensorType
from keepstep.runtime.gpu import NoGpuError, gpu_fault, gpu_name

BUILT = ["onnxruntime", pytest.param("tensorrt-rtx", marks=RTX)]


def never(*arguments: object) -> np.ndarray:
    raise AssertionError(arguments)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_shared_and_embedded_weights_give_onnx_runtime_the_same_numbers(dtype: str) -> None:
    made = layer(dtype)
    w = numbers((8, 8)).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    stored = w.view(np.uint16) if dtype == "bfloat16" else w
    x = numbers((2, 8), seed=1)
    shared = builder("onnxruntime", SHARED).build(made, None)
    options = ort.SessionOptions()
    value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(stored, ONNX_TYPES[dtype])
    options.add_external_initializers(["w"], [value])
    embedded = builder("onnxruntime", EMBEDDED).build(made, {"w": stored}.__getitem__)
    found = []
    for data, session_options in ((shared, options), (embedded, ort.SessionOptions())):
        session = ort.InferenceSession(data, session_options, ["CPUExecutionProvider"])
        assert [tensor.name for tensor in session.get_inputs()] == ["x"]
        found.append(session.run(["y"], {"x": x})[0])
    np.testing.assert_array_equal(found[0], found[1])
    # Sums of 8 products in float32, against the same in float64.
    expected = x.astype(np.float64) @ w.astype(np.float64)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BUILT)
def test_embedded_weights_are_in_the_engine_and_shared_ones_are_not(backend: str) -> None:
    made = layer(features=512)
    weights = [numbers((512, 512), seed) for seed in (0, 1)]
    shared = builder(backend, SHARED).build(made, None)
    engines = [builder(backend, EMBEDDED).build(made, lambda _, w=w: w) for w in weights]
    assert engines[0] != engines[1]
    assert min(map(len, engines)) >= weights[0].nbytes, "random numbers can't be compressed"
    assert len(shared) < weights[0].nbytes


@pytest.mark.parametrize("backend", BUILT)
def test_embedding_an_array_that_is_not_the_weight_is_a_fault_of_ours(backend: str) -> None:
    for wrong in (np.zeros((8, 8), np.float64), np.zeros((8, 4), np.float32)):
        with pytest.raises(AssertionError, match=r"weight w is float\d+ \(8, \d\), not .*float32"):
            builder(backend, EMBEDDED).build(layer(), lambda _, wrong=wrong: wrong)


def test_weights_that_do_not_fit_an_onnx_file_are_refused_before_they_are_read() -> None:
    made = replace(layer(), weights={"w": f32(2**29)})
    with pytest.raises(ExportError, match=r"'mine'.* 2\.0 GiB.*holds 2 GiB: share the weights"):
        builder("onnxruntime", EMBEDDED).build(made, never)


@pytest.mark.parametrize("backend", BUILT)
def test_the_same_stage_gives_the_same_bytes_whatever_its_name(backend: str) -> None:
    first, second = (
        builder(backend, SHARED).build(replace(layer(), name=name), None) for name in ("a", "b")
    )
    assert first == second


@pytest.mark.parametrize("backend", BUILT)
def test_every_difference_between_a_stage_and_its_code_is_told(backend: str) -> None:
    made = relu(inputs={"x": f32(5), "more": f32(1)}, outputs={"y": TensorType("float16", (4,))})
    with pytest.raises(AssertionError) as raised:
        builder(backend, SHARED).build(made, None)
    text = str(raised.value)
    assert "'mine'" in text
    assert "input 'x' is float32[4], not float32[5]" in text
    assert "input 'more' is missing, not float32[1]" in text
    assert "output 'y' is float32[4], not float16[4]" in text


def test_engines_that_other_code_wrote_are_not_taken_for_this_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ONNX code of a stage stays the same when what is made of it changes."""
    built: list[str] = []

    class Counting(OnnxRuntimeBuilder):
        def build(self, stage: OnnxStage, weights: object) -> bytes:
            built.append(stage.name)
            return b"engine"

    with Cache(tmp_path) as cache:
        compiler = StageCompiler(cache)
        for _ in range(2):
            compiler.build(ConvertedStage(relu(), {}), [Counting(SHARED)], None)
        assert len(built) == 1
        monkeypatch.setattr(compiled, "toolchain", lambda: {"keepstep": "other code"})
        compiler.build(ConvertedStage(relu(), {}), [Counting(SHARED)], None)
    assert len(built) == 2


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ExportError, match=r"'baked': give one of 'shared', 'embedded'"):
        BuildOptions(weights="baked")  # type: ignore[arg-type]
    with pytest.raises(ExportError, match=r"weight streaming.*ask for embedded weights"):
        BuildOptions(weight_streaming=True)


def test_the_identity_of_an_onnx_file_has_only_what_matters_to_it() -> None:
    base = builder("onnxruntime", EMBEDDED).identity()
    for same in (replace(EMBEDDED, tf32=True), replace(EMBEDDED, compute_capabilities=("8.9",))):
        assert builder("onnxruntime", same).identity() == base
    assert builder("onnxruntime", SHARED).identity() != base
    assert json.loads(json.dumps(base)) == base


@pytest.mark.parametrize(("asked", "meant"), [("tensort-rtx", "tensorrt-rtx"), ("onnx", None)])
def test_an_unknown_backend_is_refused_with_those_that_are_known(
    asked: str, meant: str | None
) -> None:
    with pytest.raises(ExportError) as raised:
        builder(asked, SHARED)
    text = str(raised.value)
    assert all(repr(known) in text for known in BACKENDS)
    assert (f"did you mean '{meant}'?" in text) == (meant is not None)


@pytest.mark.parametrize(
    ("backend", "module", "install"),
    [
        ("tensorrt-rtx", "tensorrt_rtx", "pip install 'keepstep[tensorrt-rtx]'"),
        (
            "tensorrt",
            "tensorrt",
            "keepstep[tensorrt]', which has to reach pypi.nvidia.com",
        ),
    ],
)
def test_a_library_that_is_not_installed_is_told_with_its_package(
    backend: str, module: str, install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExportError, match="is not installed") as raised:
        builder(backend, SHARED)
    assert install in str(raised.value)


@pytest.mark.parametrize("error", ["OSError", "ImportError", "ModuleNotFoundError"])
def test_a_library_that_cannot_be_loaded_is_told_with_the_reason(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt(tmp_path, monkeypatch, f"raise {error}('libnvinfer.so.11: cannot open')")
    with pytest.raises(ExportError, match=r"cannot be loaded \(libnvinfer.so.11: cannot open\)"):
        builder("tensorrt", SHARED)


def fake_tensorrt(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: str = "__version__ = '11.4'"
) -> None:
    (folder / "tensorrt.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)


class FakeDriver:
    """What libcuda does, of what is asked of it."""

    def __init__(self, code: int) -> None:
        self.cuInit: Callable[[int], int] = lambda flags: code

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        return 0 if ordinal == 0 else 101

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = b"NVIDIA H200"
        return 0


def test_tensorrt_builds_for_the_gpu_at_hand_and_says_for_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt(tmp_path, monkeypatch)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver(0))
    assert builder("tensorrt", SHARED).identity()["gpu"] == "NVIDIA H200"
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver(100))
    with pytest.raises(ExportError, match=r"no GPU \(error 100\).*tensorrt-rtx"):
        builder("tensorrt", SHARED)
    with pytest.raises(ExportError, match=r"TensorRT 11\.4 builds for the GPU at hand"):
        builder("tensorrt", BuildOptions(compute_capabilities=("8.9",)))


def test_no_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(NoGpuError, match=r"no CUDA driver.*libcuda"):
        gpu_name()
    assert gpu_fault() is not None


def test_interruptible_work_gives_its_result_or_its_error() -> None:
    def failing() -> None:
        raise ExportError("mine")

    assert interruptible.interruptible(lambda: 7, never) == 7
    with pytest.raises(ExportError, match="mine"):
        interruptible.interruptible(failing, never)


def test_an_interrupt_reaches_the_caller_even_if_the_work_does_not_listen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interruptible, "_PATIENCE", 0.01)
    end, asked = threading.Event(), threading.Event()

    def deaf() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        end.wait(60)

    with pytest.raises(KeyboardInterrupt):
        interruptible.interruptible(deaf, asked.set)
    assert asked.is_set()
    end.set()


def test_no_engine_library_is_loaded_before_its_builder_is_asked_for() -> None:
    code = "import sys, keepstep.exporter, keepstep.exporter.engines\n"
    code += "print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tensorrt", "tensorrt_rtx", "onnxruntime", "torch"} & set(done.stdout.split())
