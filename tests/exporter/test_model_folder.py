"""Hostile and broken model folders: one sentence, at once, and nothing opened that is no file."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from keepstep.exporter import models
from keepstep.exporter.errors import ModelError
from keepstep.exporter.models import Model

UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def load(folder: Path) -> Model:
    return models.load(str(folder), weights=False)


def refused(folder: Path, *words: str) -> None:
    """In one line, and before anything is made that takes time or memory."""
    tracemalloc.start()
    begin = time.monotonic()
    try:
        with pytest.raises(ModelError) as caught:
            load(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A tiny model takes a second; what is fended off here took minutes or gigabytes.
    assert time.monotonic() - begin < 15
    assert peak < 100e6
    message = str(caught.value)
    assert "model" in message
    assert "\n" not in message
    assert len(message) < 600
    for word in words:
        assert word in message, (word, message)


FILES = (
    *("model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json"),
    *("scheduler/scheduler_config.json", "tokenizer/tokenizer.json", UNET, TEXT),
    *("tokenizer/tokenizer_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt"),
)


@pytest.mark.parametrize("place", ["a FIFO", "a device", "a folder"])
@pytest.mark.parametrize("file", FILES)
def test_what_is_no_file_is_not_opened(file: str, place: str, folder: Path) -> None:
    (folder / file).unlink()
    if place == "a FIFO":
        os.mkfifo(folder / file)
    elif place == "a device":
        (folder / file).symlink_to("/dev/zero")
    else:
        (folder / file).mkdir()
    refused(folder, f"model/{file}", f"is {place}")


@pytest.mark.parametrize("stray", ["adapter_config.json", "generation_config.json", "added.json"])
def test_a_fifo_that_a_library_would_look_at_is_not_waited_for(stray: str, folder: Path) -> None:
    if stray == "adapter_config.json":  # transformers would change the weights by it
        (folder / "text_encoder" / stray).write_text("{}")
        refused(folder, "adapter_config.json", "merge it")
        return
    for component in ("text_encoder", "unet", "tokenizer"):
        os.mkfifo(folder / component / stray)
    assert models.load(str(folder)).name == "model"


@pytest.mark.parametrize("file", [f for f in FILES if f.endswith(".json")])
def test_a_link_to_a_file_is_a_file(file: str, folder: Path, tmp_path: Path) -> None:
    (folder / file).rename(tmp_path / "blob")
    (folder / file).symlink_to(tmp_path / "blob")
    assert load(folder).name == "model"


@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json", "tokenizer/vocab.json"])
def test_a_huge_file_of_json_is_not_read(file: str, folder: Path) -> None:
    with (folder / file).open("r+b") as sparse:
        sparse.truncate(2**34)
    refused(folder, file, f"{2**34} bytes, expected")


TEXTS = {
    "nested deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested deeper than 16"),
    "a deep list": (b'{"a":' + b"[" * 17 + b"]" * 17 + b"}", "nested deeper than 16"),
    "a list": (b"[]", "expected an object, found list"),
    "null": (b"null", "expected an object, found NoneType"),
    "empty": (b"", "cannot be read"),
    "not UTF-8": (b'{"a": "\xff"}', "cannot be read"),
    "many digits": (b'{"a": ' + b"9" * 10_000 + b"}", "cannot be read"),
}


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("file", [f for f in FILES if f.endswith("onfig.json")])
def test_json_that_is_no_plain_object_is_refused(case: str, file: str, folder: Path) -> None:
    text, words = TEXTS[case]
    (folder / file).write_bytes(text)
    refused(folder, f"model/{file}: ", words)


def edit(folder: Path, file: str, **values: object) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


HUGE = 10**6
CONFIGS: dict[str, tuple[str, dict[str, object], str]] = {
    "layers": ("unet", {"layers_per_block": HUGE}, "makes more than 1"),
    "layers a level": ("unet", {"layers_per_block": [HUGE, 1, 1]}, "makes more than 1"),
    "transformers": ("unet", {"transformer_layers_per_block": HUGE}, "makes more than 1"),
    "text layers": ("text_encoder", {"num_hidden_layers": HUGE}, "makes more than 1"),
    "VAE layers": ("vae", {"layers_per_block": HUGE}, "makes more than 1"),
    "levels": ("unet", {"down_block_types": ["DownBlock2D"] * HUGE}, "cannot be read"),
    "channels": ("unet", {"block_out_channels": [HUGE, 8 * HUGE, 8 * HUGE]}, "has shape [16, 4"),
    "heads": ("unet", {"attention_head_dim": HUGE}, "unet: cannot be loaded"),
    "picture": ("unet", {"sample_size": HUGE}, "sample_size is 1000000, expected at most 16384"),
    "picture of two": ("unet", {"sample_size": [16, HUGE]}, "sample_size is 1000000"),
    "vocabulary": ("text_encoder", {"vocab_size": 10**9}, "has shape [54, 16]"),
    "positions": ("text_encoder", {"max_position_embeddings": 10**12}, "has shape [8, 16]"),
    "width": ("text_encoder", {"hidden_size": HUGE}, "makes it [54, 1000000]"),
    "heads of text": ("text_encoder", {"num_attention_heads": HUGE}, "text_encoder: cannot be"),
    "beyond 64 bits": ("unet", {"in_channels": 10**30}, "unet: cannot be loaded"),
    "negative": ("unet", {"in_channels": -4}, "unet: cannot be loaded"),
    "text for a number": ("unet", {"layers_per_block": "2"}, "unet: cannot be loaded"),
    "no size at all": ("unet", {"sample_size": "64"}, "sample_size is '64', expected a whole"),
    "three sizes": ("unet", {"sample_size": [1, 2, 3]}, "sample_size is [1, 2, 3]"),
    "a half": ("unet", {"sample_size": 1.5}, "sample_size is 1.5, expected a whole number"),
    "unsaid": ("unet", {"sample_size": None}, "no sample_size: give --height and --width"),
    "too large": ("unet", {"sample_size": 16384}, "give a multiple of 8 pixels up to 16384"),
    "widths differ": ("unet", {"cross_attention_dim": [16, 24, 16]}, "the same for every level"),
    "an object": ("unet", {"cross_attention_dim": {"a": 1}}, "unet: cannot be loaded"),
    "quantized": ("unet", {"quantization_config": {"x": 1}}, "weights are quantized"),
    "elsewhere": ("text_encoder", {"transformers_weights": "../x.safetensors"}, "elsewhere"),
    "both ways": ("unet", {"dual_cross_attention": True}, "unet: "),
    "classes": ("unet", {"num_class_embeds": 10}, "class_embedding.weight"),
    "a part without a class": ("", {"scheduler": "PNDMScheduler"}, "a library and a class"),
    "a part of numbers": ("", {"unet": [1, 2]}, "unet is [1, 2], expected a library and a"),
    "a third encoder": ("", {"text_encoder_3": {}}, "text_encoder_3 is {}, expected"),
    "foreign blocks": ("unet", {"mid_block_type": "None"}, "unet: cannot be loaded"),
    "grey pictures": ("vae", {"in_channels": 1}, "has shape [8, 3, 3, 3]"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_beyond_reason_or_its_weights_is_refused_at_once(case: str, folder: Path) -> None:
    component, values, words = CONFIGS[case]
    edit(folder, f"{component}/config.json" if component else "model_index.json", **values)
    refused(folder, f"model/{component}" if "pixels" not in words else "model", words)


@pytest.mark.parametrize("version", ["", "main", 7, ["0.8"]])
def test_a_version_that_is_none_is_no_version(version: object, folder: Path) -> None:
    edit(folder, "unet/config.json", _diffusers_version=version)
    assert load(folder).latent_shape == (4, 16, 16)


def test_a_scheduler_of_a_billion_timesteps_is_refused(folder: Path) -> None:
    edit(folder, "scheduler/scheduler_config.json", num_train_timesteps=10**9)
    refused(folder, "num_train_timesteps is 1000000000, expected at most 100000")


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file({name: t.contiguous() for name, t in tensors.items()}, path, {"format": "pt"})


TURNED = "time_embedding.linear_1.weight"
WEIGHTS: dict[str, tuple[str, Callable[[dict[str, Any]], object], list[str]]] = {
    "one is missing": (
        UNET,
        lambda w: w.pop("mid_block.resnets.0.conv1.weight"),
        ["needs a tensor 'mid_block.resnets.0.conv1.weight' of shape [24, 24, 3, 3]"],
    ),
    "one is turned": (
        UNET,
        lambda w: w.update({TURNED: w[TURNED].T}),
        ["'time_embedding.linear_1.weight' has shape [16, 64]", "makes it [64, 16]"],
    ),
    "one is of whole numbers": (
        TEXT,
        lambda w: w.update({n: t.to(torch.int64) for n, t in w.items() if "fc1.bias" in n}),
        ["fc1.bias' has dtype 'int64'", "expected one of float32, float16, bfloat16"],
    ),
    "one is of eight bits": (
        UNET,
        lambda w: w.update({"conv_out.bias": w["conv_out.bias"].to(torch.float8_e4m3fn)}),
        ["'conv_out.bias' has dtype 'F8_E4M3'"],
    ),
    "none is there": (UNET, lambda w: w.clear(), ["needs a tensor 'conv_in.weight'"]),
}


@pytest.mark.parametrize("case", WEIGHTS)
@pytest.mark.filterwarnings("ignore")
def test_weights_that_are_not_the_configs_are_named_with_both_shapes(
    case: str, folder: Path
) -> None:
    file, change, words = WEIGHTS[case]
    rewrite(folder / file, change)
    refused(folder, f"model/{Path(file).parent}: cannot be loaded", *words)
    with pytest.raises(ModelError, match="cannot be loaded"):
        models.load(str(folder))  # an eager run, which diffusers would start with random numbers


def test_a_header_that_lies_of_shapes_is_refused(folder: Path) -> None:
    data = (folder / UNET).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header["conv_in.weight"]["shape"] = [4, 16, 3, 3]
    text = json.dumps(header, separators=(",", ":")).encode().ljust(size)
    (folder / UNET).write_bytes(data[:8] + text + data[8 + size :])
    refused(folder, "'conv_in.weight' has shape [4, 16, 3, 3]", "makes it [16, 4, 3, 3]")
    header["conv_in.weight"]["shape"] = [10**9, 4, 3, 3]
    text = json.dumps(header, separators=(",", ":")).encode()
    (folder / UNET).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    refused(folder, "model/unet: cannot be loaded")


def test_a_tokenizer_that_says_no_length_has_that_of_the_text_encoder(folder: Path) -> None:
    (folder / "tokenizer/tokenizer_config.json").unlink()
    assert load(folder).text.length == 8


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_max_length": 9}, "prompts of 9 ids (model_max_length of the tokenizer)"),
        ({"model_max_length": 2}, "expected 3 to 8, the positions of the text encoder"),
        ({"model_max_length": -1}, "prompts of -1 ids"),
        ({"pad_token": None}, "no pad_token"),
    ],
)
def test_a_tokenizer_that_does_not_fit_the_text_encoder_is_refused(
    values: dict[str, object], words: str, folder: Path
) -> None:
    edit(folder, "tokenizer/tokenizer_config.json", **values)
    refused(folder, words)


def test_ids_that_have_no_embedding_are_refused(folder: Path) -> None:
    rewrite(
        folder / TEXT,
        lambda w: w.update({n: t[:50] for n, t in w.items() if "token_embedding" in n}),
    )
    edit(folder, "text_encoder/config.json", vocab_size=50)
    refused(folder, "ids up to 53", "embeds 50")


CODE = """
from pathlib import Path
Path({ran!r}).touch()
class Evil:
    @classmethod
    def from_pretrained(cls, *_, **__): return cls()
    from_config = from_pretrained
"""


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_code_in_a_folder_is_not_run_whatever_asks_for_it(
    component: str, folder: Path, tmp_path: Path
) -> None:
    """By the module that the index names, as diffusers has them, and as transformers has them."""
    ran = tmp_path / "ran"
    for place in (folder, folder / component):
        for name in ("evil", "pipeline", "modeling_evil", "__init__"):
            (place / f"{name}.py").write_text(CODE.format(ran=str(ran)), encoding="utf-8")
    config = next((folder / component).glob("*config.json"))
    auto_map = dict.fromkeys(("AutoModel", "AutoConfig", "AutoTokenizer"), "modeling_evil.Evil")
    changes = {"auto_map": auto_map, "trust_remote_code": True, "custom_pipeline": "pipeline"}
    for path, more in (
        (config, changes),
        (folder / "model_index.json", {component: ["evil", "Evil"]} | changes),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | more), encoding="utf-8")
    before = set(sys.modules)
    with suppress(ModelError):
        model = models.load(str(folder))
        assert model.scheduler_config
        model.embed(["a"], [""])
    assert not ran.exists()
    assert not {name for name in set(sys.modules) - before if "evil" in name}
