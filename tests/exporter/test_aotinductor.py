"""AOTInductor on this machine's CPU: a package is its stage, and refusals say why.

Whole runs are in tests/export/test_aotinductor_runs.py.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from exporter.played import call_inputs, hoisted, run_stage, schedule, variants_of
from hypothesis import given
from hypothesis import strategies as st

from keepstep.exporter.engines import BuildOptions, OnnxStage, aotinductor, builder
from keepstep.exporter.errors import ExportError
from keepstep.exporter.graph.extract import Subgraph
from keepstep.exporter.graph.weight_layout import LAYOUTS, plain_weight, source_of
from keepstep.exporter.models import Model
from keepstep.exporter.stages.factory import StageFactory
from keepstep.exporter.stages.onnx_from_trace import onnx_from_subgraph
from keepstep.exporter.stages.weights import make_weight
from keepstep.runtime import BackendError
from keepstep.runtime.backends import aotinductor_package as package
from keepstep.runtime.format.plan import Stage, TensorType

X = TensorType("float32", (2, 3))


@dataclass(frozen=True)
class Built:
    """A shallow, pruned stage: convolutions, linear layers, attention, and a choice of tokens."""

    stage: OnnxStage
    data: bytes
    inputs: Mapping[str, torch.Tensor]
    outputs: Mapping[str, torch.Tensor]  # of the eager run
    weights: Mapping[str, torch.Tensor]

    def load(self, data: bytes | None = None) -> package.Package:
        """The package, as a player of a bundle with this one stage loads it."""
        types = {name: SimpleNamespace(type=t) for name, t in self.stage.weights.items()}
        signature = Stage(self.stage.inputs, self.stage.outputs, {}, {n: n for n in types})
        plan: Any = SimpleNamespace(stages={"shallow": signature}, values=types)
        bundle: Any = SimpleNamespace(path="b", read=lambda path: data or self.data)
        return package.load_package(bundle, plan, "shallow", "stages/shallow.pt2", "cpu")

    def with_metadata(self, change: Mapping[str, str], *, alone: bool = False) -> bytes:
        """The package, with something else in what it says of itself; or that `alone`."""
        made = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(self.data)) as old, zipfile.ZipFile(made, "w") as new:
            for name in old.namelist():
                data = old.read(name)
                if name.endswith("_metadata.json"):
                    data = json.dumps({**json.loads(data), **change}).encode()
                elif alone:
                    continue
                new.writestr(name, data)
        return made.getvalue()


@pytest.fixture(scope="module")
def built(model: Model, factory: StageFactory) -> Built:
    full, shallow = variants_of(factory, schedule("Fs", "branch: 0", "ratio: 0.5, alpha: 1"))
    values = hoisted(factory, call_inputs(model, full.window))
    values["cached"] = run_stage(model, factory.network(full), values)["cached"]
    source = factory.network(shallow)
    stage = onnx_from_subgraph("shallow", source.subgraph)
    traced = replace(stage, subgraph=lambda: source.subgraph)
    data = builder("aotinductor", BuildOptions()).build(traced, None)
    read = model.checkpoint.tensor
    return Built(
        stage,
        data,
        {name: values[name] for name in stage.inputs},
        run_stage(model, source, values),
        {name: make_weight(name, read) for name in stage.weights},
    )


def test_a_package_gives_what_the_eager_stage_gives(built: Built) -> None:
    loaded = built.load()
    assert dict(loaded.interface.inputs) == dict(built.stage.inputs)
    assert any(":transpose" in name for name in loaded.interface.weights)
    outputs = {name: torch.full_like(t, 77) for name, t in built.outputs.items()}
    tensors = {**built.inputs, **built.weights, **outputs}
    before = {name: tensor.clone() for name, tensor in {**built.inputs, **built.weights}.items()}
    loaded.run([tensors[name] for name in loaded.interface.arguments])
    for name, expected in built.outputs.items():
        difference = outputs[name].double() - expected.double()
        error = torch.linalg.norm(difference) / torch.linalg.norm(expected.double())
        assert error <= 1e-5, f"{name}: {error}"  # products of floats, summed in another order
    assert all(torch.equal(tensors[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"AOTI_DEVICE_KEY": "cuda"}, "was compiled for cuda, and cpu plays"),
        ({"keepstep": "{}"}, "does not say what it takes"),
        (
            {"keepstep": package.interface_text(package.Interface({"x": X}, {}, {"y": X}))},
            "inputs: the engine has no 'noise'",
        ),
    ],
)
def test_a_package_that_is_not_the_stages_is_refused(
    built: Built, change: Mapping[str, str], said: str
) -> None:
    with pytest.raises(BackendError, match=said):
        built.load(built.with_metadata(change))


def test_what_is_no_package_is_refused(built: Built) -> None:
    with pytest.raises(BackendError, match=r"does not say what it takes.*export the bundle again"):
        built.load(b"no package")
    with pytest.raises(BackendError, match=r"cannot be loaded by PyTorch.*export the bundle again"):
        built.load(built.with_metadata({}, alone=True))


def test_a_compiler_that_fails_is_told(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        said = "Traceback\n  File\ntorch._inductor.exc.InductorError: CppCompileError: no space\n"
        return subprocess.CompletedProcess([], 1, "", said)

    def killed(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], -11, "", f"{aotinductor.COMPILED}\n")

    made, subgraph = builder("aotinductor", BuildOptions()), cast(Subgraph, None)
    monkeypatch.setattr(aotinductor, "_program", lambda *_: (None, package.Interface({}, {}, {})))
    monkeypatch.setattr(aotinductor, "_save", lambda *_: None)
    for run, said in (
        (failing, r"stage 'shallow' cannot be .*InductorError: CppCompileError: no space: try"),
        (killed, r"ends the process that loads it \(signal 11\).*set CXX to another compiler"),
    ):
        monkeypatch.setattr(aotinductor.subprocess, "run", run)
        with pytest.raises(ExportError, match=said):
            made.build(replace(built.stage, subgraph=lambda: subgraph), None)


def test_the_runtime_knows_the_backend_without_loading_torch() -> None:
    code = (
        "import sys; from keepstep.runtime import backends; print(backends.runnable()); "
        "import keepstep.exporter.engines; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'aotinductor'" in done.stdout


@pytest.mark.parametrize(
    ("isa", "own", "fault"),
    [
        ("AVX512 AVX512_VNNI", "AVX512", None),
        ("AVX2", "AVX512", None),
        ("AVX512", "AVX2", "compiled for CPUs with AVX512, and this one has AVX2"),
        ("AVX2", "DEFAULT", "compiled for CPUs with AVX2, and this one has DEFAULT"),
        ("", "DEFAULT", None),
    ],
)
def test_a_cpu_that_can_do_less_is_refused(
    isa: str, own: str, fault: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: own)
    found = package.machine_fault({"AOTI_DEVICE_KEY": "cpu", "AOTI_CPU_ISA": isa}, "cpu")
    assert (found is None) == (fault is None)
    assert fault is None or fault in str(found)


def test_another_gpu_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda index: "NVIDIA H100")
    said = {"AOTI_DEVICE_KEY": "cuda", "AOTI_COMPUTE_CAPABILITY": "89"}
    found = package.machine_fault(said, "cuda")
    assert found == (
        "was compiled for a GPU of compute capability 8.9, and NVIDIA H100 has 9.0; export the "
        "bundle here"
    )
    assert package.machine_fault({**said, "AOTI_COMPUTE_CAPABILITY": "90"}, "cuda") is None


def test_what_cannot_be_built_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExportError, match="--weights embedded out"):
        builder("aotinductor", BuildOptions(weights="embedded"))
    with pytest.raises(ExportError, match="takes no compute capabilities"):
        builder("aotinductor", BuildOptions(compute_capabilities=("9.0",)))
    if not torch.cuda.is_available():
        with pytest.raises(ExportError, match=r"GPU at hand, and PyTorch finds none.*CUDA no ver"):
            builder("aotinductor-cuda", BuildOptions())
    monkeypatch.setattr(aotinductor, "which", lambda name: None)
    with pytest.raises(ExportError, match=r"compiles C\+\+, and neither.*apt install g\+\+"):
        builder("aotinductor", BuildOptions())


def test_another_gpu_than_the_one_at_hand_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda index: (9, 0))
    with pytest.raises(ExportError, match=r"of compute capability 9\.0, and not for '8\.9'"):
        builder("aotinductor-cuda", BuildOptions(compute_capabilities=("8.9",)))


@given(st.data())
def test_layouts_are_undone(data: st.DataObject) -> None:
    """A weight in a layout, as a view in its old one, is the weight."""
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    weight = torch.arange(float(np.prod(shape))).reshape(shape)
    name, laid_out = "unet.a.weight:float16", weight
    for _ in range(data.draw(st.integers(0, 3))):
        kind = data.draw(st.sampled_from(["transpose", "unsqueeze", "reshape"]))
        if kind == "transpose":
            numbers = data.draw(st.permutations(range(laid_out.dim())))
        elif kind == "unsqueeze":
            numbers = [data.draw(st.integers(0, laid_out.dim()))]
        else:
            numbers = [laid_out.numel()]
        name += ":" + "-".join([kind, *map(str, numbers)])
        laid_out = LAYOUTS[kind](laid_out, list(numbers)).contiguous()
    assert source_of(name) == "unet.a.weight:float16"
    plain = plain_weight(name, laid_out, "unet.a.weight:float16", shape)
    assert torch.equal(plain, weight)
    if name.count(":") == 2:  # one change, as nearly all weights have: it costs nothing
        assert plain.untyped_storage().data_ptr() == laid_out.untyped_storage().data_ptr()
