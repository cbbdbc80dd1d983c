"""What can't be merged is refused by name, and hostile files are refused like any other."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime.lora_bundle import (
    ATTENTION,
    CONV,
    DOWN,
    PAIR,
    TO_Q,
    TO_Q_A,
    TO_Q_B,
    UP,
    pair,
    random,
    write_lora_bundle,
    write_tensors,
)
from safetensors.numpy import save_file

from keepstep.runtime import Bundle, InputError
from keepstep.runtime.lora import file as lora_file

KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def refused(bundle: Bundle, *loras: Any) -> str:
    with pytest.raises(InputError) as caught:
        bundle.with_loras(loras)
    assert len(str(caught.value)) < 1500
    return str(caught.value)


NAN, HUGE = np.full((2, 4), np.nan, np.float32), np.full((2, 4), 1e30, np.float32)
REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "another architecture": (
        pair("unet.down_blocks.7.attentions.0.proj_in"),
        ["'unet.down_blocks.7.attentions.0.proj_in'", "another architecture"],
    ),
    "a misspelt module": (pair(f"{ATTENTION}.to_qq"), [".to_qq'", f"did you mean '{ATTENTION}."]),
    "a time embedding": (
        pair("unet.time_embedding.linear_1"),
        ["'unet.time_embedding.linear_1', which the bundle holds as a table", "checkpoint"],
    ),
    "a time projection": (
        pair("lora_unet_down_blocks_0_resnets_0_time_emb_proj"),
        ["time_emb_proj", "as a table"],
    ),
    "a time projection of SDXL": (
        pair("lora_unet_input_blocks_1_0_emb_layers_1"),
        ["emb_layers_1", "as a table"],
    ),
    "a timestep's layer of a transformer": (
        pair("transformer.time_text_embed.timestep_embedder.linear_1"),
        ["timestep_embedder.linear_1', which the bundle holds as a table", "checkpoint"],
    ),
    "a timestep's layer of FLUX.1": (
        {"lora_unet_time_in_in_layer.lora_down.weight": DOWN}
        | {"lora_unet_time_in_in_layer.lora_up.weight": UP},
        ["time_in_in_layer", "as a table"],
    ),
    "a timestep's layer of PixArt": (
        pair("base_model.model.adaln_single.linear"),
        ["adaln_single.linear", "as a table"],
    ),
    "another model's embedding of text": (
        pair("lora_unet_context_embedder"),
        ["'lora_unet_context_embedder'", "another architecture"],
    ),
    "T5 where there is none": (
        pair("text_encoder_3.encoder.block.0.layer.0.SelfAttention.q"),
        ["SelfAttention.q'", "exported without T5: export it with T5"],
    ),
    "kohya's T5 where there is none": (
        pair("lora_te3_encoder_block_0_layer_0_SelfAttention_q"),
        ["exported without T5"],
    ),
    "T5 and more that there is not": (
        pair("lora_te3_encoder_block_0_layer_0_SelfAttention_q") | pair("unet.conv_x"),
        ["another architecture"],
    ),
    "a layer that the text encoder has not": (
        pair("text_encoder.encoder.layers.1.self_attn.q_proj"),
        ["layers.1.self_attn.q_proj", "another architecture"],
    ),
    "down without up": ({TO_Q_A: DOWN}, ["no pair of factors", f"'{ATTENTION}.to_q'"]),
    "up without down": ({TO_Q_B: UP}, ["no pair of factors", f"'{ATTENTION}.to_q'"]),
    "alpha alone": ({"lora_unet_x.alpha": np.ones(())}, ["no pair", "'lora_unet_x'"]),
    "ranks that differ": (
        pair(f"{ATTENTION}.to_q", up=random(6, 3)),
        ["[2, 4] (down) and [6, 3] (up)", "expected [rank, in] and [out, rank]"],
    ),
    "no rank": (
        pair(f"{ATTENTION}.to_q", np.zeros((0, 4)), np.zeros((6, 0))),
        ["[0, 4] (down)", "expected [rank, in]"],
    ),
    "vectors": (pair(f"{ATTENTION}.to_q", np.ones(4), np.ones(6)), ["[4] (down)"]),
    "another width": (
        pair(f"{ATTENTION}.to_q", random(2, 5)),
        ["shape [6, 5], but the bundle has [6, 4]", "another architecture"],
    ),
    "the same size in another shape": (
        pair(f"{ATTENTION}.to_q", random(2, 6), random(4, 2)),
        ["shape [4, 6], but the bundle has [6, 4]"],
    ),
    "a product of a terabyte": (
        pair(f"{ATTENTION}.to_q", np.ones((1, 2**20)), np.ones((2**20, 1))),
        ["shape [1048576, 1048576], but the bundle has [6, 4]"],
    ),
    "a matrix for a convolution": (
        pair("unet.down_blocks.0.resnets.0.conv1", random(2, 36), random(6, 2)),
        ["shape [6, 36], but the bundle has [6, 4, 3, 3]"],
    ),
    "kernels in both factors": (
        pair("unet.down_blocks.0.resnets.0.conv1", random(2, 4, 3, 3), random(6, 2, 3, 3)),
        ["[6, 2, 3, 3] (up)"],
    ),
    "NaNs": (pair(f"{ATTENTION}.to_q", NAN), [TO_Q_A, "infinities or NaNs"]),
    "numbers too large together": (
        pair(f"{ATTENTION}.to_q", HUGE, np.full((6, 2), 1e30, np.float32)),
        ["leaves the range of float32", "smaller scales"],
    ),
    "numbers too large for float16": (
        pair(f"{ATTENTION}.to_k", np.full((2, 4), 1e5, np.float32)),
        ["leaves the range of float16", "smaller scales"],
    ),
    "infinite alpha": ({**PAIR, f"{ATTENTION}.to_q.alpha": np.array(np.inf)}, ["infinities"]),
    "two alphas": ({**PAIR, f"{ATTENTION}.to_q.alpha": np.ones(2)}, ["found 2 numbers"]),
    "one weight in two spellings": (
        {**PAIR, f"{KOHYA}.lora_down.weight": DOWN, f"{KOHYA}.lora_up.weight": UP},
        ["two spellings"],
    ),
    "one factor in two spellings": (
        {**PAIR, f"{ATTENTION}.to_q.lora.down.weight": DOWN},
        ["to_q.lora.down", "given twice"],
    ),
    "DoRA of kohya": ({**PAIR, "lora_unet_x.dora_scale": UP}, ["DoRA is not supported"]),
    "DoRA of peft": (
        {**PAIR, f"{ATTENTION}.to_q.lora_magnitude_vector": UP},
        ["attn1.to_q.lora_mag", "DoRA is not supported", "merge it into the checkpoint"],
    ),
    "LoHa": ({"lora_unet_x.hada_w1_a": UP}, ["LoHa is not supported"]),
    "LoKr": ({"lora_unet_x.lokr_w1": UP}, ["LoKr is not supported"]),
    "a Tucker form": ({**PAIR, "lora_unet_x.lora_mid.weight": UP}, ["Tucker form"]),
    "a checkpoint": ({"unet.conv_in.weight": CONV}, ["not the names of a LoRA", "lora_A.weight"]),
    "a bias": ({**PAIR, f"{ATTENTION}.to_q.lora_B.bias": UP}, ["lora_B.bias'", "not the names"]),
    "nothing": ({}, ["holds no tensors"]),
    "ragged lists": ({TO_Q_A: [[1], [1, 2]]}, ["expected an array"]),
    "numbers beyond float32": (pair(f"{ATTENTION}.to_q", np.full((2, 4), 1e300)), ["infinities"]),
    "texts": ({TO_Q_A: np.array(["a"])}, ["expected an array of numbers"]),
    "hostile names": ({"\x1b[31m" + "x" * 10**6: UP}, ["\\x1b[31mxxx", "not the names"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_merged_is_refused_by_name(case: str, weights: Bundle) -> None:
    lora, words = REFUSED[case]
    message = refused(weights, (lora, 1.0))
    for word in words:
        assert word in message, message


def test_a_file_is_named_when_it_is_refused(weights: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    save_file({TO_Q_A: DOWN}, path)
    assert refused(weights, (path, 1.0)).startswith(f"{path}: no pair of factors")


BAD_FILES = {
    "missing": None,
    "empty": b"",
    "text": b"not a safetensors file",
    "a header that claims much": (2**60).to_bytes(8, "little") + b"{}",
    "a header that is cut": (100).to_bytes(8, "little") + b'{"a":',
    "a tensor beyond the end": (80).to_bytes(8, "little")
    + b'{"a":{"dtype":"F32","shape":[99],"data_offsets":[0,396]}}'.ljust(80),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_is_none_is_refused(case: str, weights: Bundle, tmp_path: Path) -> None:
    path, content = tmp_path / "style.safetensors", BAD_FILES[case]
    if content is not None:
        path.write_bytes(content)
    assert f"{path}: cannot be read as a safetensors file" in refused(weights, (path, 1.0))


def test_a_damaged_file_is_read_or_refused(weights: Bundle, tmp_path: Path) -> None:
    """Whatever bits flip, in the header above all, there is a bundle or an `InputError`."""
    path = tmp_path / "style.safetensors"
    settings = '{"unet.lora_alpha": 8, "unet.r": 2}'
    save_file(PAIR, path, {"lora_adapter_metadata": settings})
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(0, len(whole))] ^= 1 << rng.integers(0, 8)
        path.write_bytes(damaged[: rng.integers(len(whole) - 8, len(whole) + 8)])
        try:
            weights.with_loras([(path, 1.0)])
            outcomes.add("read")
        except InputError as error:
            assert str(path) in str(error) or "leaves the range" in str(error)
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_a_folder_and_a_name_with_a_nul_are_refused(weights: Bundle, tmp_path: Path) -> None:
    for path in (tmp_path, "a\0b"):
        assert "cannot be read as a safetensors file" in refused(weights, (path, 1.0))


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(
    weights: Bundle, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name, what in (("fifo", "a FIFO"), ("zeros", "a device"), ("", "a folder")):
        message = refused(weights, (tmp_path / name, 1.0))
        assert f"is {what}, expected a regular file" in message


@pytest.mark.parametrize(
    ("header", "size", "words"),
    [
        (150_000_000, 200_000_000, "header of 150000000 bytes, expected 33554432 at most"),
        (2**64 - 1, 100, "header of 18446744073709551615 bytes"),
        (100, 2**40, "1099511627776 bytes, expected 8589934592 at most"),
    ],
)
def test_a_file_larger_than_any_lora_is_refused_by_its_sizes_alone(
    header: int, size: int, words: str, weights: Bundle, tmp_path: Path
) -> None:
    """A million keys take a header of 100 MB: understanding them took a minute."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", header))
    os.truncate(path, size)
    assert words in refused(weights, (path, 1.0))


def test_a_file_of_more_tensors_than_any_lora_has_is_refused(
    weights: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tensors(tmp_path / "a.safetensors", PAIR)
    monkeypatch.setattr(lora_file, "MOST_TENSORS", len(PAIR))
    weights.with_loras([(path, 1.0)])
    monkeypatch.setattr(lora_file, "MOST_TENSORS", len(PAIR) - 1)
    assert "holds 2 tensors, expected 1 at most" in refused(weights, (path, 1.0))


def test_whole_numbers_are_no_factors(weights: Bundle, tmp_path: Path) -> None:
    path = write_tensors(tmp_path / "a.safetensors", {TO_Q_A: np.ones((2, 4), np.int64)})
    assert "has dtype int64, expected one of 'float32'" in refused(weights, (path, 1.0))


@pytest.mark.parametrize(
    "scale", [np.nan, np.inf, -np.inf, 1e39, pytest.param(10**400, id="10**400"), "1", None, True]
)
def test_a_scale_is_a_finite_number_in_float32(scale: Any, weights: Bundle) -> None:
    assert "expected a finite number" in refused(weights, (PAIR, scale))


@pytest.mark.parametrize("entry", ["ab", "style.safetensors", ("a",), (1, 1.0), None, PAIR])
def test_loras_are_pairs(entry: Any, weights: Bundle) -> None:
    assert "expected" in refused(weights, entry)


def test_weights_inside_engines_cannot_be_changed(tmp_path: Path) -> None:
    bundle = Bundle.open(write_lora_bundle(tmp_path / "bundle", embedded=True))
    message = refused(bundle, (PAIR, 1.0))
    assert "stage 'full' has its weights in its engines" in message
    assert str(bundle.path) in message


def test_weights_that_are_no_floats_cannot_be_changed(tmp_path: Path) -> None:
    name = f"{ATTENTION}.to_q.weight"
    bundle = Bundle.open(write_lora_bundle(tmp_path / "bundle", {name: np.ones((6, 4), np.int64)}))
    assert "holds as int64" in refused(bundle, (PAIR, 1.0))


def test_an_unknown_layout_is_refused(tmp_path: Path) -> None:
    name = f"{ATTENTION}.to_q.weight:int4"
    bundle = Bundle.open(write_lora_bundle(tmp_path / "bundle", {name: TO_Q}))
    assert "a layout that this keepstep does not know, 'int4'" in refused(bundle, (PAIR, 1.0))
