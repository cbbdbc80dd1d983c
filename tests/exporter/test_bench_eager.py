"""Eager configurations: other dtypes, other devices, a model loaded once."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from exporter.played import schedule
from exporter.test_reference import GUIDANCE, PROMPTS, start_noise

from keepstep.bench import Setting, configurations, driver
from keepstep.bench.eager import COMPILED, EAGER, EagerConfiguration, EagerModel, Place, usual_place
from keepstep.exporter import models
from keepstep.exporter.check.reference import run_eagerly
from keepstep.exporter.models import Model
from keepstep.runtime import InputError
from keepstep.runtime.format.plan import TensorType

CALLS = "FsF."

# Relative to the norm of the latents after four calls. float64 differs from float32 by rounding to
# 6e-8 a number, amplified by guidance and some tens of layers; a rounding to half precision is
# 5e-4 (float16) or 4e-3 (bfloat16), amplified alike. A wrong scale or a lost step is of order 1.
TOLERANCES = {torch.float64: 1e-4, torch.float16: 5e-2, torch.bfloat16: 2e-1}


def drawn(model: Model, dtype: torch.dtype) -> np.ndarray:
    there = model.placed("cpu", dtype)
    told = there.embed(PROMPTS, ["", ""])
    run = run_eagerly(there, schedule(CALLS, "branch: 0"), start_noise(model), told, GUIDANCE)
    assert run.latents.dtype == np.float32
    return run.latents


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_run_in_another_dtype_gives_the_same_latents_but_for_rounding(
    dtype: torch.dtype, model_folder: Path
) -> None:
    expected = drawn(models.load(str(model_folder)), torch.float32)
    found = drawn(models.load(str(model_folder)), dtype)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 0 < error < TOLERANCES[dtype]


@pytest.mark.parametrize(("upcast", "expected"), [(True, torch.float32), (False, torch.float16)])
def test_a_vae_that_overflows_stays_in_float32(
    upcast: bool, expected: torch.dtype, model_folder: Path
) -> None:
    model = models.load(str(model_folder))
    model.autoencoder.module.register_to_config(force_upcast=upcast)
    there = model.placed("cpu", torch.float16)
    assert there.autoencoder.module.dtype == expected
    assert there.denoiser.module.dtype == torch.float16


def toy_bundle(model: Model, tmp_path: Path, dtype: str = "float32") -> Any:
    """A bundle with the one plan `full`, as far as eager configurations look at it."""
    file = tmp_path / "full.yaml"
    file.write_text(schedule("FF").to_yaml())
    shapes = {
        "noise": TensorType("float32", (1, *model.latent_shape)),
        "image": TensorType("uint8", (1, model.height, model.width, 3)),
    }
    kinds = {"noise": "input", "image": "output"}
    values = {n: SimpleNamespace(kind=kinds[n], type=shape) for n, shape in shapes.items()}
    about = {"family": model.family, "dtype": dtype}
    return SimpleNamespace(
        plans=("full",),
        plan=lambda name: SimpleNamespace(values=values),
        file=lambda path: file,
        read=lambda path: b"{}",
        manifest=SimpleNamespace(model=about),
    )


@pytest.fixture
def loaded(model: Model, model_folder: Path, tmp_path: Path) -> EagerModel:
    return EagerModel(str(model_folder), toy_bundle(model, tmp_path), Place("cpu", "float32"))


def configuration_of(loaded: EagerModel, how: str = EAGER) -> EagerConfiguration:
    return EagerConfiguration(loaded._bundle, "full", loaded, Setting(eager_repeats=2), how)


def test_configurations_share_one_load(loaded: EagerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = models.load
    monkeypatch.setattr(models, "load", lambda *given: loads.append(given) or load(*given))
    first, second = (configuration_of(loaded).run() for _ in range(2))
    assert len(loads) == 1
    assert np.array_equal(first.image, second.image)
    assert [kind for kind, _ in first.calls] == ["text", "full", "full", "decode"]
    assert first.device_bytes == 0


def test_a_model_of_another_size_is_refused(
    loaded: EagerModel, model_folder: Path, tmp_path: Path
) -> None:
    model = models.load(str(model_folder), 64, 32)
    other = toy_bundle(replace(model, height=32), tmp_path)
    other.plan("full").values["noise"].type = TensorType("float32", (1, 4, 8, 8))
    with pytest.raises(InputError, match="give the folder that was exported"):
        configuration_of(EagerModel(str(model_folder), other, loaded.place)).run()


@pytest.fixture
def as_if_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What torch.cuda was asked for, while the CPU does the work."""
    asked: list[str] = []
    numbers = {"memory_allocated": 100, "max_memory_allocated": 700}
    monkeypatch.setattr(EagerModel, "on_gpu", True)
    for name in ("synchronize", "reset_peak_memory_stats", *numbers):
        monkeypatch.setattr(
            torch.cuda, name, lambda name=name: asked.append(name) or numbers.get(name)
        )
    return asked


def test_on_a_gpu_the_whole_and_its_calls_come_from_two_runs(
    loaded: EagerModel, as_if_on_a_gpu: list[str]
) -> None:
    calls = []
    hook = loaded.modules.denoiser.module.conv_in.register_forward_hook(lambda *_: calls.append(1))
    run = configuration_of(loaded).run()
    hook.remove()
    assert len(calls) == 2 * 2, "two runs of two calls"
    # Before and after each run; and twice for text, two calls and decode in the second one.
    assert as_if_on_a_gpu.count("synchronize") == 2 * 2 + 2 * 4
    assert run.device_bytes == loaded.weight_bytes() + 600
    weights = sum(t.nbytes for t in loaded.modules.denoiser.module.parameters())
    assert loaded.weight_bytes() > weights > 0


def test_the_clock_waits_for_the_gpu(loaded: EagerModel, as_if_on_a_gpu: list[str]) -> None:
    times = [loaded.clock() for _ in range(3)]
    assert as_if_on_a_gpu == ["synchronize"] * 3
    assert all(a <= b for a, b in itertools.pairwise(times))


def test_the_full_plan_is_also_run_as_pytorch_compiles_it(
    loaded: EagerModel, as_if_on_a_gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []

    def compile_(module: torch.nn.Module, mode: str) -> torch.nn.Module:
        compiled.append((module, mode))
        return module

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(driver, "backends_for", lambda *_: ("onnxruntime",))
    found = list(driver.configurations_of(loaded._bundle, Setting(), loaded, ()))
    assert [configuration.how for configuration in found] == [EAGER, COMPILED, "onnxruntime"]
    eager, other = found[0].run(), found[1].run()
    assert compiled == [(loaded.modules.denoiser.module, "reduce-overhead")]
    assert np.array_equal(eager.image, other.image)
    assert other.device_bytes is None


def test_pytorch_runs_on_a_gpu_in_the_bundles_dtype_and_on_a_cpu_in_float32(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = toy_bundle(model, tmp_path, "float16")
    for there, expected in ((True, Place("cuda", "float16")), (False, Place("cpu", "float32"))):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert usual_place(bundle) == expected
        assert EagerModel("x", bundle, expected).on_gpu == there


def test_eager_configurations_sit_out_rounds_of_their_own_number(loaded: EagerModel) -> None:
    assert configuration_of(loaded).rounds == 2
    compiled = configurations.CompiledConfiguration(
        loaded._bundle, "full", "x", Setting(eager_repeats=2)
    )
    assert compiled.rounds == 5
    assert EagerConfiguration(loaded._bundle, "full", loaded, Setting()).rounds == 5
