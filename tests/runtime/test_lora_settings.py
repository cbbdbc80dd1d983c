"""What stands beside a LoRA's tensors counts, or is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime.lora_bundle import ATTENTION, DOWN, PAIR, TO_Q, UP, pair, write_tensors
from safetensors.numpy import save_file

from keepstep.runtime import Bundle, InputError

PEFT = pair(f"base_model.model.{ATTENTION.removeprefix('unet.')}.to_q")
# As PEFT writes them, without those that say nothing about weights.
CONFIG = {
    "alpha_pattern": {},
    "lora_alpha": 8,
    "peft_type": "LORA",
    "r": 2,
    "use_dora": False,
    "use_rslora": False,
}


def refused(bundle: Bundle, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        bundle.with_loras([(path, 1.0)])
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 1500
    return str(caught.value)


def check_strength(bundle: Bundle, path: Path, strength: float) -> None:
    found = bundle.with_loras([(path, 1.0)]).array(
        "weights.safetensors", f"{ATTENTION}.to_q.weight"
    )
    np.testing.assert_allclose(found, TO_Q + strength * UP @ DOWN, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{", "is no JSON"),
        ("[" * 10**5, "is no JSON"),
        ("[]", "expected an object"),
        ('{"unet.lora_alpha": "8"}', "lora_alpha is '8', expected a finite number"),
        ('{"unet.lora_alpha": NaN}', "lora_alpha is nan, expected a finite number"),
        (f'{{"unet.lora_alpha": 1{"0" * 400}}}', "lora_alpha is 1000"),
        ('{"unet.use_rslora": true}', "'unet.use_rslora' is not supported"),
        ('{"unet.alpha_pattern": {"to_q": 3}}', "'unet.alpha_pattern' is not supported"),
    ],
)
def test_settings_beside_the_tensors_are_checked(
    settings: str, words: str, weights: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    save_file(PAIR, path, {"lora_adapter_metadata": settings})
    assert words in refused(weights, path)


def peft_folder(folder: Path, config: Any = CONFIG) -> Path:
    path = write_tensors(folder / "adapter_model.safetensors", PEFT)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return path


def test_the_alpha_in_pefts_file_counts(weights: Bundle, tmp_path: Path) -> None:
    check_strength(weights, peft_folder(tmp_path), 8 / 2)


def test_without_pefts_file_alpha_is_the_rank(weights: Bundle, tmp_path: Path) -> None:
    check_strength(weights, write_tensors(tmp_path / "a.safetensors", PEFT), 1)


def test_pefts_file_is_not_for_files_of_others(weights: Bundle, tmp_path: Path) -> None:
    peft_folder(tmp_path)
    check_strength(weights, write_tensors(tmp_path / "a.safetensors", PAIR), 1)


def test_the_alpha_of_a_model_saved_by_itself_counts(weights: Bundle, tmp_path: Path) -> None:
    """`save_lora_adapter` of diffusers' models writes no component before names and settings."""
    path = tmp_path / "a.safetensors"
    lora = {key.removeprefix("unet."): array for key, array in PAIR.items()}
    save_file(lora, path, {"lora_adapter_metadata": json.dumps(CONFIG)})
    check_strength(weights, path, 8 / 2)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"use_rslora": True}, "'use_rslora' is not supported"),
        ({"use_dora": True}, "'use_dora' is not supported"),
        ({"alpha_pattern": {"to_q": 3}}, "'alpha_pattern' is not supported"),
        ({"lora_alpha": "8"}, "lora_alpha is '8', expected a finite number"),
    ],
)
def test_pefts_settings_are_checked(
    setting: dict[str, Any], words: str, weights: Bundle, tmp_path: Path
) -> None:
    assert words in refused(weights, peft_folder(tmp_path, CONFIG | setting))


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[]", b" " * (2**20 + 1)])
def test_a_file_of_peft_that_is_none_is_refused(
    text: bytes, weights: Bundle, tmp_path: Path
) -> None:
    path = peft_folder(tmp_path)
    (tmp_path / "adapter_config.json").write_bytes(text)
    assert "adapter_config.json" in refused(weights, path)


def test_a_fifo_in_the_place_of_pefts_file_is_not_waited_for(
    weights: Bundle, tmp_path: Path
) -> None:
    path = write_tensors(tmp_path / "adapter_model.safetensors", PEFT)
    os.mkfifo(tmp_path / "adapter_config.json")
    assert "adapter_config.json, cannot be read: " in refused(weights, path)
