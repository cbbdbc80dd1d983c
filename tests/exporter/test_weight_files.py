"""Which weights of a folder are read: those that diffusers and transformers load, and no others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CLIPTextModel

from keepstep.exporter.errors import ModelError
from keepstep.exporter.folder.model_folder import Choice, find_folder
from keepstep.exporter.models import Checkpoint

UNET = "unet/diffusion_pytorch_model"
TEXT = "text_encoder/model"
CLASSES: dict[str, Any] = {"unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def own(folder: Path, component: str, **how: Any) -> Any:
    """What the library itself loads, as diffusers' pipelines ask it to."""
    if component == "unet":
        how["low_cpu_mem_usage"] = False
    return CLASSES[component].from_pretrained(folder / component, **how)


def changed(folder: Path, component: str) -> Any:
    """The component's module with other weights than are in the folder."""
    module = own(folder, component)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 1
    return module


def same(found: dict[str, Tensor], expected: nn.Module) -> bool:
    return all(
        torch.equal(found[name].float(), parameter.float())
        for name, parameter in expected.named_parameters()
    )


def assert_read(folder: Path, component: str, expected: nn.Module, variant: str | None) -> None:
    """Compiled and eager runs alike read the weights of `expected`."""
    checkpoint = Checkpoint(find_folder(str(folder), Choice(variant)))
    cls = CLASSES[component]
    module = checkpoint.weightless(cls, component, FakeTensorMode(allow_non_fake_inputs=True))
    names = [name for name, _ in module.named_parameters()]
    assert same({name: checkpoint.tensor(f"{component}.{name}") for name in names}, expected)
    assert same(dict(checkpoint.loaded(cls, component).named_parameters()), expected)


STRAYS = (
    "diffusion_pytorch_model.non_ema.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "model_backup.safetensors",
    "old.safetensors",
    "zzz.safetensors",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model-00001-of-00001.safetensors",
    "diffusion_pytorch_model.safetensors.index.fp16.json",
)


@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("component", ["unet", "text_encoder"])
def test_a_file_beside_the_right_one_is_not_read(
    component: str, stray: str, folder: Path, tmp_path: Path
) -> None:
    name = stray if component == "unet" else stray.replace("diffusion_pytorch_model", "model")
    changed(folder, component).save_pretrained(tmp_path / "other")
    (written,) = (tmp_path / "other").glob("*.safetensors")
    shutil.copy(written, folder / component / name)
    assert_read(folder, component, own(folder, component), None)


def in_shards(folder: Path, component: str, variant: str | None, module: Any) -> None:
    size = "30KB" if component == "unet" else "6KB"
    module.save_pretrained(folder / component, max_shard_size=size, variant=variant)


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("component", ["unet", "text_encoder"])
def test_shards_are_read_by_their_index_alone(
    component: str, variant: str | None, folder: Path
) -> None:
    module = changed(folder, component)
    for file in (folder / component).glob("*.safetensors"):
        file.unlink()
    in_shards(folder, component, variant, module)
    shards = sorted((folder / component).glob("*.safetensors"))
    assert len(shards) > 1
    shutil.copy(shards[-1], folder / component / "zzz.safetensors")
    assert_read(folder, component, own(folder, component, variant=variant), variant)
    found = find_folder(str(folder), Choice(variant)).weights[component]
    assert found.files == tuple(file.name for file in shards)
    assert found.variant == variant


def test_float32_shards_are_read_whatever_variant_lies_beside_them(folder: Path) -> None:
    """What no file name says by itself: the shards' names have no variant, one file's has."""
    module = own(folder, "unet")
    (folder / f"{UNET}.safetensors").unlink()
    in_shards(folder, "unet", None, module)
    own(folder, "unet").to(torch.float16).save_pretrained(folder / "unet", variant="fp16")
    exact = own(folder, "unet")
    rounded = own(folder, "unet", variant="fp16")
    assert not same(dict(rounded.named_parameters()), exact)
    assert_read(folder, "unet", exact, None)
    assert_read(folder, "unet", rounded, "fp16")


@pytest.mark.parametrize("component", ["unet", "text_encoder"])
def test_of_a_file_and_an_index_each_library_has_its_own_first_choice(
    component: str, folder: Path, tmp_path: Path
) -> None:
    in_shards(tmp_path, component, None, changed(folder, component))
    for file in (tmp_path / component).iterdir():
        if file.name != "config.json":
            shutil.copy(file, folder / component)
    files = find_folder(str(folder)).weights[component].files
    assert (len(files) > 1) == (component == "unet")
    assert_read(folder, component, own(folder, component), None)


def test_an_index_of_an_older_diffusers_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_shards(folder, "unet", "fp16", changed(folder, "unet"))
    index = folder / f"{UNET}.safetensors.index.fp16.json"
    expected = own(folder, "unet", variant="fp16")
    index.rename(folder / f"{UNET}.safetensors.fp16.index.json")
    assert_read(folder, "unet", expected, "fp16")


def pickled(folder: Path, component: str, name: str) -> nn.Module:
    module: nn.Module = changed(folder, component)
    for file in (folder / component).glob("*.safetensors"):
        file.unlink()
    torch.save(module.state_dict(), folder / component / name)
    return module


@pytest.mark.parametrize(
    ("component", "name"),
    [("unet", "diffusion_pytorch_model.bin"), ("text_encoder", "pytorch_model.bin")],
)
def test_a_pickle_is_read_where_there_is_nothing_else(
    component: str, name: str, folder: Path
) -> None:
    module = pickled(folder, component, name)
    assert_read(folder, component, module, None)


class Evil:
    """What a pickle may ask for: any call."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.file,)


def test_a_pickle_runs_no_code(folder: Path, tmp_path: Path) -> None:
    pickled(folder, "unet", "x.bin")
    torch.save({"conv_in.weight": Evil(tmp_path / "ran")}, folder / f"{UNET}.bin")
    with pytest.raises(ModelError, match="model/unet: cannot be loaded"):
        assert_read(folder, "unet", nn.Module(), None)
    assert not (tmp_path / "ran").exists()


def test_a_component_without_the_variant_is_read_without_it(folder: Path) -> None:
    own(folder, "unet").to(torch.float16).save_pretrained(folder / "unet", variant="fp16")
    weights = find_folder(str(folder), Choice("fp16")).weights
    assert weights["unet"].files == ("diffusion_pytorch_model.fp16.safetensors",)
    assert weights["vae"].files == ("diffusion_pytorch_model.safetensors",)
    assert weights["text_encoder"].files == ("model.safetensors",)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("diffusion_pytorch_model.fp16.safetensors", "fp16"),
        ("diffusion_pytorch_model.non_ema.bin", "non_ema"),
        ("diffusion_pytorch_model.fp16-00001-of-00002.safetensors", "fp16"),
    ],
)
def test_a_variant_alone_is_refused_with_the_way_out(name: str, variant: str, folder: Path) -> None:
    (folder / f"{UNET}.safetensors").rename(folder / "unet" / name)
    with pytest.raises(ModelError, match=rf"model/unet: .*alone: export with --variant {variant} "):
        find_folder(str(folder))


def test_a_variant_that_is_nowhere_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"weights of the variant fp16: .* plain"):
        find_folder(str(folder), Choice("fp16"))
    own(folder, "unet").save_pretrained(folder / "unet", variant="ema")
    with pytest.raises(ModelError, match="variant fp16: there are ema"):
        find_folder(str(folder), Choice("fp16"))


@pytest.mark.parametrize("variant", ["../x", "", "a.b", "fp16\n", "a/b"])
def test_a_variant_is_a_part_of_a_name(variant: str, folder: Path) -> None:
    with pytest.raises(ModelError, match="variant is "):
        find_folder(str(folder), Choice(variant))


def index_of(folder: Path) -> tuple[Path, dict[str, Any]]:
    in_shards(folder, "unet", None, own(folder, "unet"))
    path = folder / f"{UNET}.safetensors.index.json"
    return path, json.loads(path.read_text())


@pytest.mark.parametrize(
    ("home", "words"),
    [
        ("../vae/diffusion_pytorch_model.safetensors", "expected files of the same folder"),
        ("/etc/passwd", "expected files of the same folder"),
        ("gone.safetensors", "'gone.safetensors' not there, but .* names it"),
        ("config.json", "expected files of its own kind"),
    ],
)
def test_an_index_leads_to_nothing_outside_and_nothing_missing(
    home: str, words: str, folder: Path
) -> None:
    path, index = index_of(folder)
    index["weight_map"]["conv_in.weight"] = home
    path.write_text(json.dumps(index))
    with pytest.raises(ModelError, match=words):
        find_folder(str(folder))


def test_an_index_and_its_shards_say_the_same(folder: Path) -> None:
    path, index = index_of(folder)
    homes = index["weight_map"]
    other = next(home for home in homes.values() if home != homes["conv_in.weight"])
    path.write_text(json.dumps(index | {"weight_map": homes | {"conv_in.weight": other}}))
    with pytest.raises(ModelError, match=r"'conv_in.weight' is in .* but the index says"):
        assert_read(folder, "unet", nn.Module(), None)
    path.write_text(json.dumps(index | {"weight_map": homes | {"more": other}}))
    with pytest.raises(ModelError, match="'more' not in the files that the index names"):
        assert_read(folder, "unet", nn.Module(), None)
    path.write_text(json.dumps({"weight_map": {}}))
    with pytest.raises(ModelError, match="expected a `weight_map`"):
        find_folder(str(folder))


def test_a_hub_id_is_fetched_with_its_variant(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(folder, "unet").save_pretrained(folder / "unet", variant="fp16")
    asked: list[object] = []

    def download(model: str, **how: object) -> str:
        asked.extend([model, how])
        return str(folder)

    monkeypatch.setattr("diffusers.DiffusionPipeline.download", download)
    found = find_folder("somebody/some-model", Choice("fp16"))
    assert asked == ["somebody/some-model", {"variant": "fp16"}]
    assert (found.name, found.weights["unet"].variant) == ("somebody/some-model", "fp16")
