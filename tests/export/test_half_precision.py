"""Half-precision bundles: what is half in them, what is not, and what cannot be."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from export.drawn import distance, played
from exporter.small_stages import RTX
from onnx import TensorProto
from safetensors.numpy import load_file, save_file

from keepstep.cli import main as cli
from keepstep.exporter import bundle_check, compilation, export
from keepstep.exporter.check import verify
from keepstep.exporter.check.verify import ONE_CALL
from keepstep.exporter.errors import ExportError, ModelError
from keepstep.exporter.schedule.schema import Schedule, parse
from keepstep.exporter.stages import weights
from keepstep.runtime import Bundle
from keepstep.runtime.format.plan import Plan

LARGEST = 65504  # of float16
# What float16 stages add up to over three calls; one rounding is 5e-4.
CLOSE = 2e-2
# Two levels of 255: the same, in a picture.
LEVELS = 5

pytestmark = pytest.mark.long


def schedule(steps: int = 3) -> Schedule:
    sampler = f"{{scheduler: EulerDiscreteScheduler, steps: {steps}}}"
    calls = "F" + "s" * (steps - 1)
    lines = ("keepstep: 1", "name: cached", f"sampler: {sampler}", "cache: {branch: 0}")
    return parse("\n".join([*lines, f"calls: {calls}"]))


@pytest.fixture(scope="module")
def full(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundle") / "float32"
    return export(small_folder, [schedule()], out, verify="none")


@pytest.fixture(scope="module")
def half(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundle") / "float16"
    return export(small_folder, [schedule()], out, dtype="float16", verify="stages")


def test_every_stage_gives_what_the_eager_float32_one_gives(half: Bundle) -> None:
    verdict = verify.verify(half, "cached")
    assert [s.stage for s in verdict.stages] == ["text", "prompt", "full", "shallow", "decode"]
    assert all(s.error <= ONE_CALL["float16"] for s in verdict.stages)


def test_the_picture_is_close_to_that_in_float32(half: Bundle, full: Bundle) -> None:
    ours, exact = played(half, "cached"), played(full, "cached")
    assert 0 < distance(ours["latents"], exact["latents"]) <= CLOSE
    assert levels_apart(ours, exact) <= LEVELS


def test_what_networks_hand_to_networks_is_half_and_nothing_else(half: Bundle) -> None:
    check_values(half.plan("cached"), "float16")


def check_values(plan: Plan, dtype: str) -> None:
    sampler = {"noise", "history", "coef", "guidance_scale", "latents"}
    prompts = {"prompt_embeds", "negative_prompt_embeds"}
    floats = {n: v.type.dtype for n, v in plan.values.items() if "float" in v.type.dtype}
    own = {n: d for n, d in floats.items() if plan.values[n].file != "weights.safetensors"}
    assert sampler | prompts | {"cached"} <= own.keys()
    handed = {n for n in own if n.startswith(("prompt.", "time.")) or n == "cached"}
    assert {own[n] for n in handed} == {dtype}
    assert {own[n] for n in own.keys() - handed} == {"float32"}
    for name in ("full", "shallow"):
        outputs = plan.stages[name].outputs
        assert outputs["prediction"].dtype == "float32"
        assert all(t.dtype == dtype for n, t in outputs.items() if n != "prediction")


def test_norms_keep_their_weights_in_float32_and_products_do_not(half: Bundle) -> None:
    stored = load_file(half.file("weights.safetensors"))
    norms = {name for name in stored if "norm" in name or "time_embedding" in name}
    assert norms
    assert {str(stored[name].dtype) for name in norms} == {"float32"}
    products = {n for n in stored if n.partition(":")[0].endswith(("conv1.weight", "to_q.weight"))}
    assert products
    assert {str(stored[name].dtype) for name in products} == {"float16"}


def test_no_weight_is_stored_in_more_layouts_than_stages_take(half: Bundle, full: Bundle) -> None:
    plan = half.plan("cached")
    bound = {value for stage in plan.stages.values() for value in stage.weights.values()}
    stored = load_file(half.file("weights.safetensors"))
    assert stored.keys() == bound
    twice = [p for p in {n.partition(":")[0] for n in stored} if len(variants(p, stored)) > 1]
    exact = load_file(full.file("weights.safetensors"))
    assert all(len(variants(path, exact)) > 1 for path in twice), "only what float32 has twice"
    assert sum(a.nbytes for a in stored.values()) < 0.6 * sum(a.nbytes for a in exact.values())


def variants(path: str, stored: Mapping[str, object]) -> list[str]:
    return [name for name in stored if name.partition(":")[0] == path]


def altered(folder: Path, place: Path, factors: Mapping[str, float]) -> Path:
    """A copy of a model with some weights multiplied."""
    shutil.copytree(folder, place)
    for path, factor in factors.items():
        component, _, name = path.partition(".")
        file = place / component / "diffusion_pytorch_model.safetensors"
        weights = load_file(file)
        weights[name] = weights[name] * np.float32(factor)
        save_file(weights, file, {"format": "pt"})
    return place


@pytest.fixture(scope="module")
def loud_folder(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its numbers grow beyond float16, and norms bring them back."""
    factors = {"vae.decoder.conv_in.weight": 1e6, "unet.mid_block.resnets.0.conv1.weight": 1e6}
    return altered(small_folder, tmp_path_factory.mktemp("model") / "loud", factors)


def test_loud_layers_grow_beyond_float16_and_come_back(loud_folder: Path) -> None:
    """So the tests below look at something: in float32, with torch."""
    unet = UNet2DConditionModel.from_pretrained(loud_folder / "unet")
    vae = AutoencoderKL.from_pretrained(loud_folder / "vae")
    seen: dict[str, float] = {}
    for name, module in (("unet", unet.mid_block.resnets[0].conv1), ("vae", vae.decoder.conv_in)):
        module.register_forward_hook(
            lambda _m, _i, out, name=name: seen.update({name: float(out.abs().max())})
        )
    with torch.no_grad():
        latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
        prediction = unet(latents, 500.0, torch.zeros(1, 8, 16)).sample
        picture = vae.decode(latents).sample
    assert seen["unet"] > LARGEST < seen["vae"]
    assert prediction.abs().max() < 100
    assert picture.abs().max() < 100


def test_layers_that_overflow_are_found_and_kept_in_float32(
    loud_folder: Path, tmp_path: Path
) -> None:
    exact = played(export(loud_folder, [schedule()], tmp_path / "float32", verify="none"), "cached")
    kept = export(loud_folder, [schedule()], tmp_path / "out", dtype="float16", verify="stages")
    ours = played(kept, "cached")
    assert distance(ours["latents"], exact["latents"]) <= CLOSE
    assert levels_apart(ours, exact) <= LEVELS
    settings = json.loads(kept.file("settings.json").read_text())
    assert settings["kept_in_float32"].keys() == {"full", "decode"}
    assert len(settings["kept_in_float32"]["full"]) < 5, "no more than overflows"
    stored = load_file(kept.file("weights.safetensors"))
    assert stored["unet.mid_block.resnets.0.conv1.weight"].dtype == np.float32
    assert "unet.mid_block.resnets.0.conv2.weight:float16" in stored

    with pytest.raises(ModelError, match=r"weight .*: .* is beyond what float16 holds"):
        export(loud_folder, [schedule()], tmp_path / "blind", dtype="float16", verify="none")


@pytest.mark.parametrize("weight", ["to_k", "to_v"])
def test_what_overflows_between_stages_is_refused_with_the_way_out(
    weight: str, small_folder: Path, half: Bundle, tmp_path: Path
) -> None:
    path = f"unet.mid_block.attentions.0.transformer_blocks.0.attn2.{weight}.weight"
    folder = altered(small_folder, tmp_path / "loud", {path: 1e6})
    with pytest.raises(ExportError, match=rf"prompt\..*{weight} holds .* --dtype bfloat16 or fl"):
        export(folder, [schedule()], tmp_path / "out", dtype="float16", verify="stages")
    assert not (tmp_path / "out").exists()


def test_what_is_asked_for_stays_in_float32(small_folder: Path, tmp_path: Path) -> None:
    bundle = export(
        small_folder,
        [schedule(steps=1)],
        tmp_path / "out",
        dtype="float16",
        float32=["decode", "attention"],
        verify="none",
    )
    plan = bundle.plan("cached")
    assert all(":float16" not in name for name in plan.stages["decode"].weights)
    assert any(":float16" in name for name in plan.stages["full"].weights)
    model = onnx.load(
        str(bundle.file(plan.stages["full"].engines["onnxruntime"])), load_external_data=False
    )
    model = onnx.shape_inference.infer_shapes(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    products = [n for n in model.graph.node if n.op_type == "MatMul"]
    attention = [n for n in products if not weights & set(n.input)]
    assert {types[n.output[0]] for n in attention} == {TensorProto.FLOAT}
    linear = [n for n in products if weights & set(n.input) and n not in attention]
    assert TensorProto.FLOAT16 in {types[n.output[0]] for n in linear}


def test_a_stage_that_does_not_match_is_refused_and_told(
    loud_folder: Path,
    half: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = (half.path / "bundle.json").read_bytes()
    out = Path(shutil.copytree(half.path, tmp_path / "bundles/out"))
    monkeypatch.setenv("KEEPSTEP_CACHE", str(tmp_path / "cache"))  # where nothing is known of it
    monkeypatch.setattr(compilation, "out_of_range", lambda *_: set())  # so it is not avoided
    monkeypatch.setattr(weights, "_check_finite", lambda *_: None)  # nor refused by name
    with pytest.raises(ExportError) as refused:
        export(loud_folder, [schedule()], out, dtype="float16", verify="stages")
    message = str(refused.value)
    assert "stage 'full' does not match the eager run: cached is off by nan" in message
    assert message.endswith("export with --dtype float32, or look into it with --verify none")
    assert (out / "bundle.json").read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["out"]

    monkeypatch.setattr(bundle_check, "precision_fallback", lambda *_: ("linear", "attention"))
    with pytest.raises(ExportError, match="with --float32 linear --float32 attention, which rep"):
        export(loud_folder, [schedule()], out, dtype="float16", verify="stages")

    monkeypatch.setattr(bundle_check, "verify_bundle", lambda *_: None)
    export(loud_folder, [schedule()], out, dtype="float16", verify="stages")
    monkeypatch.setattr(sys, "argv", ["keepstep", "verify", str(out), "--json"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    (told,) = json.loads(capsys.readouterr().out)
    assert not told["good"]
    good = [s["stage"] for s in told["stages"] if (s["error"] or 1) <= CLOSE]
    assert good == ["text", "prompt", "shallow"]


def test_bfloat16_on_onnxruntime_is_refused_before_any_work(
    small_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"'bfloat16', in which ONNX Runtime .* choose float16"):
        export(small_folder, [schedule()], tmp_path / "out", dtype="bfloat16")


@RTX
def test_a_bfloat16_bundle_is_half_where_a_float16_one_is(
    small_folder: Path, tmp_path: Path
) -> None:
    bundle = export(
        small_folder,
        [schedule()],
        tmp_path / "out",
        backends=["tensorrt-rtx"],
        dtype="bfloat16",
        verify="none",
    )
    check_values(bundle.plan("cached"), "bfloat16")


def levels_apart(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> int:
    """The largest difference of two pictures, out of 255."""
    return int(np.abs(one["image"].astype(int) - other["image"].astype(int)).max())
