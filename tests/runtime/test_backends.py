from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from plans.make import mutated, text_of
from runtime.toy_bundle import inputs, seal, write_bundle

from keepstep.runtime import BackendError, Bundle, BundleError, backends
from keepstep.runtime.backends import registry


def test_an_unknown_backend_is_refused_with_the_known_ones(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=r"did you mean 'onnxruntime'.*would run here: 'null'"):
        bundle.player("toy", "onnxruntim")


def test_a_backend_that_is_not_installed_says_how_to_get_it(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    assert backends.runnable() == ("null",)
    with pytest.raises(BackendError, match="pip install onnxruntime; what would run here: 'null'"):
        bundle.player("toy")


GPU_BACKENDS = ("onnxruntime-cuda", "tensorrt-rtx", "tensorrt", "aotinductor-cuda")


@pytest.mark.parametrize("name", GPU_BACKENDS)
def test_without_a_driver_a_gpu_backend_says_so_and_what_would_run(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(registry, "_installed", lambda library: True)
    monkeypatch.setattr(registry, "gpu_fault", lambda: "no CUDA driver is found (libcuda.so.1)")
    assert backends.runnable() == ("null", "onnxruntime", "aotinductor")
    with pytest.raises(
        BackendError,
        match=rf"'{name}' needs an NVIDIA GPU, and no CUDA driver is found.*'onnxruntime'",
    ):
        bundle.player("toy", name)


@pytest.mark.parametrize(
    ("name", "missing", "way_out"),
    [
        ("onnxruntime-cuda", "onnxruntime", r"onnxruntime-gpu\[cuda,cudnn\]"),
        ("onnxruntime-cuda", "cuda.core", r"keepstep\[cuda\]"),
        ("tensorrt-rtx", "cuda.bindings", r"keepstep\[tensorrt-rtx\]"),
        ("tensorrt-rtx", "tensorrt_rtx", r"keepstep\[tensorrt-rtx\]"),
        ("tensorrt-rtx", "cuda.core", r"keepstep\[tensorrt-rtx\]"),
        ("aotinductor", "torch", r"keepstep\[aotinductor\]"),
        ("aotinductor-cuda", "cuda.core", r"keepstep\[aotinductor,cuda\]"),
        ("tensorrt", "tensorrt", r"keepstep\[tensorrt\].* pypi\.nvidia\.com"),
    ],
)
def test_a_missing_library_is_named_before_a_missing_gpu(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, name: str, missing: str, way_out: str
) -> None:
    monkeypatch.setattr(registry, "_installed", lambda library: library.module != missing)
    monkeypatch.setattr(registry, "gpu_fault", lambda: "no CUDA driver is found")
    with pytest.raises(BackendError, match=rf"'{name}' needs {missing}.*{way_out}"):
        bundle.player("toy", name)


def test_a_library_that_cannot_be_loaded_is_told_with_its_reason(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> None:
        raise OSError("libcublas.so.13: cannot open shared object file")

    monkeypatch.setattr(registry, "import_module", broken)
    with pytest.raises(BackendError, match=r"installed but cannot be loaded: libcublas"):
        bundle.player("toy")


def test_a_plan_is_playable_where_every_stage_has_an_engine(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_fault", lambda entry: None)
    plan = bundle.plan("toy")
    assert backends.playable(plan) == ("onnxruntime", "onnxruntime-cuda")
    stages = dict(plan.stages)
    stages["full"] = replace(stages["full"], engines={"tensorrt": "stages/full.engine"})
    assert backends.playable(replace(plan, stages=stages)) == ()


def test_a_bundle_without_engines_for_the_backend_says_which_it_has(tmp_path: Path) -> None:
    def elsewhere(plan: dict[str, Any]) -> None:
        engines = plan["stages"]["full"]["engines"]
        engines["tensorrt-rtx"] = engines.pop("onnxruntime")

    bundle = Bundle.open(write_bundle(tmp_path / "toy", mutated(elsewhere)))
    with pytest.raises(
        BackendError, match=r"'full' has no engine for onnxruntime, but for 'tensorrt-rtx'.*export"
    ):
        bundle.player("toy")


def test_players_of_a_bundle_share_engines_and_weights(folder: Path) -> None:
    bundle = Bundle.open(folder)
    sessions: list[Any] = [bundle.player("toy", threads=1)._session for _ in range(2)]
    other: Any = bundle.player("toy", threads=2)._session
    for (one, _), (two, _), (three, _) in zip(
        sessions[0]._launches, sessions[1]._launches, other._launches, strict=True
    ):
        assert one is two
        assert one is not three


def refused_engine(folder: Path) -> str:
    """Seal and load the toy bundle, an engine of which must be refused; give the message."""
    seal(folder)
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder).player("toy")
    assert caught.value.rule == 20
    return str(caught.value)


@pytest.mark.parametrize("content", [b"", b"onnx", bytes(1000)])
def test_an_engine_of_rubbish_is_refused(folder: Path, content: bytes) -> None:
    (folder / "stages/full-00.onnx").write_bytes(content)
    assert "stage 'full' (stages/full-00.onnx)" in refused_engine(folder)


def test_a_cut_engine_is_refused(folder: Path) -> None:
    path = folder / "stages/full-00.onnx"
    path.write_bytes(path.read_bytes()[:-40])
    assert "the file is cut" in refused_engine(folder)


def test_an_engine_of_another_stage_is_refused(folder: Path) -> None:
    (folder / "stages/final-00.onnx").write_bytes((folder / "stages/decode-00.onnx").read_bytes())
    assert "the plan's inputs are 'coef', 'history', 'noise'" in refused_engine(folder)


def test_an_engine_of_other_shapes_is_refused(folder: Path) -> None:
    path = folder / "stages/decode-00.onnx"
    model = onnx.load(path)
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, path)
    assert "inputs.latents: the plan has float32[1, 4]" in refused_engine(folder)


def test_an_engine_that_wants_weights_nobody_gives_is_refused(folder: Path) -> None:
    plan = mutated(lambda plan: plan["stages"]["full"].update(weights={}))
    (folder / "plans/toy.json").write_bytes(text_of(plan))
    assert "the plan's weights are none, the engine's 'kernel'" in refused_engine(folder)


def test_a_second_plan_that_means_a_shared_engine_in_another_way_is_refused(folder: Path) -> None:
    plan = mutated(lambda plan: plan.update(name="other"))
    plan["stages"]["text"]["engines"] = {"onnxruntime": "stages/decode-00.onnx"}
    (folder / "plans/other.json").write_bytes(text_of(plan))
    seal(folder)
    bundle = Bundle.open(folder)
    bundle.player("toy", threads=1)
    with pytest.raises(BundleError, match=r"stage 'text' \(stages/decode-00.onnx\): the plan's"):
        bundle.player("other", threads=1)


def test_constants_are_not_copied_into_the_arena(bundle: Bundle) -> None:
    with bundle.player("toy", threads=1) as player:
        session: Any = player._session
        assert "coef" not in session._values
        found = player.run(inputs())
    assert np.isfinite(found["latents"]).all()


@pytest.mark.parametrize("error", [RuntimeError("x: std::bad_alloc"), MemoryError()])
def test_too_little_memory_for_an_engine_is_no_fault_of_the_bundle(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("onnxruntime.InferenceSession", full)
    with pytest.raises(BackendError, match="there is too little memory: end other") as caught:
        bundle.player("toy", threads=3)  # that no other test has loaded
    assert "export the bundle again" not in str(caught.value)


def test_too_little_memory_for_a_launch_is_said(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise RuntimeError("Non-zero status code: std::bad_alloc\x1b[2J")

    monkeypatch.setattr("onnxruntime.InferenceSession.run_with_iobinding", full)
    with (
        bundle.player("toy", threads=1) as player,
        pytest.raises(BackendError, match=r"calls.0.. failed.*too little memory") as caught,
    ):
        player.run(inputs())
    assert str(caught.value).isprintable()
