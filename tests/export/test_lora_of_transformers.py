"""Transformers with a LoRA give what diffusers' pipelines give with it; nothing is exported."""

from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import peft
import pytest
import torch
from export.drawn import distance
from export.lora_families import (
    FAMILIES,
    RANK,
    SCALE,
    SCHEDULE,
    Exported,
    diffusers_names,
    kohya_names,
    kohyas_flux,
    loaded,
    merged_by_hand,
    played,
)
from safetensors.numpy import save_file
from torch import nn
from transformers_for_tests import LATENT

from keepstep.exporter import export
from keepstep.exporter.engines.onnxruntime import OnnxRuntimeBuilder
from keepstep.exporter.stages import compiled
from keepstep.runtime import InputError

# The same factors under other names give the same products, cut into parts or not.
SAME = 1e-6


@pytest.fixture(scope="module", params=FAMILIES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    family = FAMILIES[request.param]
    folder = family.write(tmp_path_factory.mktemp("model") / "model")
    out = tmp_path_factory.mktemp("bundle") / "out"
    bundle = export(folder, [SCHEDULE], out, height=2 * LATENT, width=2 * LATENT, verify="none")
    return Exported(family, folder, bundle, played(bundle, family)["latents"])


def only(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("exported", names, indirect=True)


@only("sd3", "flux")
def test_a_file_of_diffusers_gives_what_its_pipeline_gives(
    exported: Exported, tmp_path: Path
) -> None:
    """Every linear layer of transformer and CLIP that depends on more than the timestep."""
    path = tmp_path / "style.safetensors"
    factors = exported.factors("transformer", *exported.family.clips)
    save_file(dict(diffusers_names(factors)), path)
    exported.agrees(path, loaded(exported.pipeline(), path))


@only("flux")
def test_a_file_of_kohyas_scripts_gives_what_diffusers_pipeline_gives(
    exported: Exported, tmp_path: Path
) -> None:
    """Diffusers has the sizes of the real model's `linear1` as constants: that is left out here."""
    path = tmp_path / "style.safetensors"
    lora = dict(kohyas_flux(exported, np.random.default_rng(6)))
    save_file({key: array for key, array in lora.items() if "linear1" not in key}, path)
    exported.agrees(path, loaded(exported.pipeline(), path))


@only("flux")
def test_the_same_lora_in_kohyas_names_and_in_diffusers_gives_the_same(
    exported: Exported, tmp_path: Path
) -> None:
    kohya = dict(kohyas_flux(exported, np.random.default_rng(6)))
    # Copies: diffusers multiplies those of text encoders in place.
    others = {k: torch.tensor(a) for k, a in kohya.items() if "linear1" not in k}
    theirs = {k: t.numpy() for k, t in diffusers.FluxPipeline.lora_state_dict(others).items()}
    parts = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
    for i in range(2):
        name = f"lora_unet_single_blocks_{i}_linear1"
        down, up = kohya[f"{name}.lora_down.weight"] / 2, kohya[f"{name}.lora_up.weight"]  # alpha
        q, k, v, mlp = np.split(up, len(up) // 7 * np.arange(1, 4))
        for part, rows in zip(parts, (q, k, v, mlp), strict=True):
            module = f"transformer.single_transformer_blocks.{i}.{part}"
            theirs |= dict(diffusers_names({module: (down, rows.copy())}))
    path = tmp_path / "style.safetensors"
    save_file(theirs, path)
    exported.agrees(kohya, loaded(exported.pipeline(), path))
    ours = exported.played((kohya, SCALE))
    assert distance(exported.played((path, SCALE)), ours) <= SAME


@only("pixart")
def test_a_folder_of_peft_gives_what_its_model_gives(exported: Exported, tmp_path: Path) -> None:
    """Diffusers has no loader for PixArt; alpha stands in a file beside the tensors."""
    pipeline = exported.pipeline()
    modules = [name.partition(".")[2] for name in exported.factors("transformer")]
    config = peft.LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules=modules, init_lora_weights=False
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = peft.get_peft_model(pipeline.transformer, config)
    model.save_pretrained(tmp_path)
    for layer in model.modules():
        if isinstance(layer, peft.tuners.lora.LoraLayer):
            layer.set_scale("default", SCALE)
    exported.agrees(tmp_path / "adapter_model.safetensors", pipeline)


T5_PREFIXES = {
    "text_encoder": "lora_te",
    "text_encoder_2": "lora_te3",
    "text_encoder_3": "lora_te3",
}


def test_layers_of_t5_are_merged(exported: Exported) -> None:
    """No loader of diffusers knows them; kohya's scripts train them."""
    component = exported.family.t5
    factors = exported.factors(component)
    theirs = merged_by_hand(exported.pipeline(), factors, SCALE / 2)
    kohya = dict(kohya_names(factors, "lora_te3"))
    exported.agrees(kohya, theirs)
    ours = exported.played((kohya, SCALE))
    same = exported.played((dict(diffusers_names(factors)), SCALE / 2))
    assert distance(same, ours) <= SAME


def test_nothing_is_built_and_the_picture_is_another(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner, name in ((compiled, "onnx_from_subgraph"), (OnnxRuntimeBuilder, "build")):
        monkeypatch.setattr(owner, name, lambda *_, **__: pytest.fail("built"))
    files = {p: p.stat().st_mtime_ns for p in exported.bundle.path.rglob("*")}
    plain = played(exported.bundle, exported.family)
    lora = dict(diffusers_names(exported.factors("transformer")))
    styled = exported.bundle.with_loras([(lora, SCALE)])
    assert styled.plan(SCHEDULE.name) is exported.bundle.plan(SCHEDULE.name)
    picture = played(styled, exported.family)["image"]
    assert np.mean(picture != plain["image"]) > 0.5
    assert {p: p.stat().st_mtime_ns for p in exported.bundle.path.rglob("*")} == files
    again = played(exported.bundle, exported.family)
    assert np.array_equal(again["latents"], exported.plain), "the first bundle is as it was"


def test_what_depends_on_the_timestep_alone_is_refused(exported: Exported) -> None:
    for path, module in exported.pipeline().transformer.named_modules():
        if isinstance(module, nn.Linear) and exported.family.tabled in path:
            out, inner = module.weight.shape
            pair = np.ones((1, inner), np.float32), np.ones((out, 1), np.float32)
            lora = dict(diffusers_names({f"transformer.{path}": pair}))
            with pytest.raises(InputError, match=f"{path}', which the bundle holds as a table"):
                exported.bundle.with_loras([(lora, 1.0)])
