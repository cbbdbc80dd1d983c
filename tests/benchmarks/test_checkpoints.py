"""Checkpoints of the published architectures: what is in their folders, and who can read them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import torch
from checkpoints import ARCHITECTURES, shapes, write_checkpoint
from diffusers import DiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPTokenizer

UNET = "unet/diffusion_pytorch_model.safetensors"

# Of the published checkpoints.
PARAMETERS = {
    ("sd15", "unet"): 859_520_964,
    ("sd15", "vae"): 83_653_863,
    ("sd15", "text_encoder"): 123_060_480,
    ("sd21", "unet"): 865_910_724,
    ("sd21", "vae"): 83_653_863,
    ("sd21", "text_encoder"): 340_387_840,
    ("sdxl", "unet"): 2_567_463_684,
    ("sdxl", "vae"): 83_653_863,
    ("sdxl", "text_encoder"): 123_060_480,
    ("sdxl", "text_encoder_2"): 694_659_840,
    ("sd3", "transformer"): 2_084_951_104,
    ("sd3", "text_encoder_3"): 4_762_310_656,
    ("pixart-sigma", "transformer"): 610_856_096,
    ("flux-dev", "transformer"): 11_901_408_320,
    ("flux-schnell", "transformer"): 11_891_178_560,
}

# Transformers are written by the same code; small ones are drawn with in the tests of exports.
UNETS = [name for name, parts in ARCHITECTURES.items() if "unet" in parts]


def shrunk(name: str) -> dict[str, dict[str, Any]]:
    """An architecture with everything of it, but a few channels wide."""
    parts = {part: dict(config) for part, config in ARCHITECTURES[name].items()}
    levels = len(parts["unet"]["block_out_channels"])
    parts["unet"] |= {
        "block_out_channels": [16, 32, 32, 32][:levels],
        "attention_head_dim": [2, 4, 4, 4][:levels],
        "cross_attention_dim": 16,
        "norm_num_groups": 8,
        "sample_size": 8,
    }
    parts["vae"] |= {
        "block_out_channels": [8, 8, 16, 16],
        "norm_num_groups": 4,
        "sample_size": 64,
    }
    small = {"intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    parts["text_encoder"] |= small | {"hidden_size": 16}
    if "text_encoder_2" in parts:  # its features are put beside the first one's
        parts["text_encoder_2"] |= small | {"hidden_size": 24, "projection_dim": 24}
        parts["unet"] |= {
            "cross_attention_dim": 16 + 24,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 24,
            "transformer_layers_per_block": [1, 1, 2],
        }
    return parts


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def zeros(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD1.5 at its full size."""
    return write_checkpoint(ARCHITECTURES["sd15"], tmp_path_factory.mktemp("zeros") / "sd15")


@pytest.mark.parametrize(("name", "part"), PARAMETERS)
def test_networks_have_as_many_parameters_as_the_published_ones(name: str, part: str) -> None:
    found = sum(prod(shape) for shape in shapes(ARCHITECTURES[name][part]).values())
    assert found == PARAMETERS[name, part]


def test_zeros_take_no_disk(zeros: Path) -> None:
    size = (zeros / UNET).stat()
    assert size.st_size > 2 * PARAMETERS["sd15", "unet"]
    # The header is 100 kB; a file system that knows no holes would need all 1.7 GB.
    assert size.st_blocks * 512 < 1 << 20


def test_zeros_have_the_names_and_shapes_of_the_network(zeros: Path) -> None:
    expected = shapes(ARCHITECTURES["sd15"]["unet"])
    with safe_open(zeros / UNET, "numpy") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        assert {name: tuple(s.get_shape()) for name, s in slices.items()} == expected
        assert {s.get_dtype() for s in slices.values()} == {"F16"}
        assert not file.get_tensor("conv_out.weight").any()


@pytest.mark.parametrize("name", UNETS)
def test_the_tokenizer_gives_ids_that_the_text_encoder_knows(name: str, tmp_path: Path) -> None:
    folder = write_checkpoint(shrunk(name), tmp_path / name)
    vocabulary = ARCHITECTURES[name]["text_encoder"]["vocab_size"]
    parts = [part for part in ARCHITECTURES[name] if part.startswith("tokenizer")]
    for part in parts:
        tokenizer = CLIPTokenizer.from_pretrained(folder / part)
        pad = {"!": 0, "<|endoftext|>": 49407}[ARCHITECTURES[name][part]["pad_token"]]
        ids = tokenizer("A Red äpple!", padding="max_length", truncation=True).input_ids
        assert len(ids) == 77
        assert ids[0] == 49406
        end = ids.index(49407)
        assert set(ids[end + 1 :]) == {pad}
        assert max(ids) < vocabulary
        assert len(set(ids[1:end])) > 5, "letters are told apart"
        assert ids == tokenizer("a red äpple!", padding="max_length").input_ids


@pytest.mark.parametrize("name", UNETS)
def test_the_pipeline_of_diffusers_draws_with_random_weights(name: str, tmp_path: Path) -> None:
    """Every name and shape fits, and no number leaves its range."""
    folder = write_checkpoint(shrunk(name), tmp_path / name, "random", "float32")
    pipeline = DiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    assert type(pipeline).__name__ == ARCHITECTURES[name]["model_index"]["_class_name"]
    assert pipeline.scheduler.config.prediction_type == (
        "v_prediction" if name == "sd21" else "epsilon"
    )
    weights = load_file(folder / UNET)
    assert weights.keys() == pipeline.unet.state_dict().keys()
    assert all(torch.equal(w, weights[n]) for n, w in pipeline.unet.state_dict().items())
    generator = torch.Generator().manual_seed(0)
    drawn = pipeline("a fox", num_inference_steps=2, generator=generator, output_type="np")
    assert drawn.images.shape == (1, 64, 64, 3)
    assert np.isfinite(drawn.images).all()
    assert drawn.images.std() > 0.01, "a picture, not one colour"


def random_tensors(folder: Path, seed: int, dtype: str = "float32") -> Mapping[str, torch.Tensor]:
    write_checkpoint(shrunk("sd15"), folder, "random", dtype, seed)
    tensors: Mapping[str, torch.Tensor] = load_file(folder / UNET)
    return tensors


def test_random_weights_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_checkpoint(shrunk("sd15"), tmp_path / out, "random", seed=seed)
    a, b, c = (contents(tmp_path / out) for out in "abc")
    assert a == b
    assert {name for name in a if a[name] != c[name]} == {n for n in a if "safetensors" in n}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_narrow_dtype_has_the_numbers_of_float32_rounded(dtype: str, tmp_path: Path) -> None:
    wide = random_tensors(tmp_path / "wide", 0)
    narrow = random_tensors(tmp_path / "narrow", 0, dtype)
    assert all(torch.equal(t.to(getattr(torch, dtype)), narrow[n]) for n, t in wide.items())


def test_random_weights_keep_the_size_of_what_goes_through_a_layer(tmp_path: Path) -> None:
    tensors = random_tensors(tmp_path / "model", 0)
    assert (tensors["conv_norm_out.weight"] == 1).all()
    assert not tensors["conv_norm_out.bias"].any()
    weight = tensors["mid_block.resnets.0.conv1.weight"]
    assert weight.shape == (32, 32, 3, 3)
    # 9,216 numbers: the deviation of their deviation is 0.7 %.
    assert float(weight.std()) == pytest.approx((32 * 9) ** -0.5, rel=0.04)


def test_numbers_are_drawn_in_pieces_and_none_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = random_tensors(tmp_path / "whole", 0)
    monkeypatch.setattr(checkpoints, "CHUNK", 1000)  # no divisor of most tensors' sizes
    pieces = random_tensors(tmp_path / "pieces", 0)
    assert {n: t.shape for n, t in pieces.items()} == {n: t.shape for n, t in whole.items()}
    weight = pieces["mid_block.resnets.0.conv1.weight"].flatten()
    assert len(weight.unique()) > 9000, "no piece is repeated, none is zeros"


def test_a_folder_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="model: exists already: remove it, or"):
        write_checkpoint(shrunk("sd15"), tmp_path / "model")
    assert contents(tmp_path) == {"model/mine.txt": b"mine"}


def test_what_cannot_be_finished_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Iterator[torch.Tensor]:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpoints, "_pieces", full)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(shrunk("sd15"), tmp_path / "model", "random")
    assert list(tmp_path.iterdir()) == []


def test_the_command_refuses_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, checkpoints.__file__, "sd15", str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert f"{tmp_path}: exists already" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_configurations_are_written_as_they_are(zeros: Path) -> None:
    for part, (config_file, _) in checkpoints.FILES.items():
        if part in ARCHITECTURES["sd15"]:
            written = json.loads((zeros / part / config_file).read_text(encoding="utf-8"))
            assert written == ARCHITECTURES["sd15"][part]
