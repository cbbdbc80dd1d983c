from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime.lora_bundle import (
    ATTENTION,
    BFLOAT16,
    BLOCK,
    CONV,
    DOWN,
    PAIR,
    PROJ,
    Q_PROJ,
    TEXT,
    TO_K,
    TO_Q,
    TO_Q_A,
    TO_Q_B,
    TO_V,
    UP,
    WEIGHTS,
    pair,
    random,
    write_lora_bundle,
    write_tensors,
)
from safetensors.numpy import save_file

from keepstep.runtime import Bundle

# One product of a handful of terms in another order of rounding.
TOLERANCE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}


def held(bundle: Bundle, name: str) -> np.ndarray:
    return bundle.array("weights.safetensors", name)


def changed(before: Bundle, after: Bundle) -> set[str]:
    """The tensors that are not the very same array."""
    return {name for name in WEIGHTS if held(before, name) is not held(after, name)}


def test_a_weight_is_changed_in_every_layout_and_all_others_are_shared(weights: Bundle) -> None:
    merged = weights.with_loras([(PAIR, 0.5)])
    expected = TO_Q + 0.5 * UP @ DOWN
    both = {f"{ATTENTION}.to_q.weight", f"{ATTENTION}.to_q.weight:transpose-1-0"}
    assert changed(weights, merged) == both
    np.testing.assert_allclose(held(merged, f"{ATTENTION}.to_q.weight"), expected, **TOLERANCE)
    transposed = held(merged, f"{ATTENTION}.to_q.weight:transpose-1-0")
    np.testing.assert_allclose(transposed, expected.T, **TOLERANCE)
    assert transposed.flags.c_contiguous
    assert not transposed.flags.writeable
    assert np.array_equal(held(weights, f"{ATTENTION}.to_q.weight"), TO_Q), "the first is as it was"


def test_plans_and_mapped_files_are_those_of_the_first_bundle(weights: Bundle) -> None:
    merged = weights.with_loras([(PAIR, 1)])
    assert merged is not weights
    assert merged.plan("full") is weights.plan("full")
    assert merged.manifest is weights.manifest


SPELLINGS = {
    "peft": (f"{ATTENTION}.to_q.lora_A.weight", f"{ATTENTION}.to_q.lora_B.weight"),
    "peft with the adapter's name": (
        f"{ATTENTION}.to_q.lora_A.default.weight",
        f"{ATTENTION}.to_q.lora_B.default.weight",
    ),
    "diffusers": (f"{ATTENTION}.to_q.lora.down.weight", f"{ATTENTION}.to_q.lora.up.weight"),
    "diffusers with processors": (
        f"{ATTENTION}.processor.to_q_lora.down.weight",
        f"{ATTENTION}.processor.to_q_lora.up.weight",
    ),
    "diffusers with the UNet alone": (
        f"{ATTENTION}.processor.to_q_lora.down.weight".removeprefix("unet."),
        f"{ATTENTION}.processor.to_q_lora.up.weight".removeprefix("unet."),
    ),
    "kohya": (
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight",
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight",
    ),
    "kohya for SDXL": (
        "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.lora_down.weight",
        "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.lora_up.weight",
    ),
}
TEXT_SPELLINGS = [
    (f"{before}{middle}{after}.{down}", f"{before}{middle}{after}.{up}")
    for before, middles, after, down, up in (
        (
            "text_encoder.",
            ("", "text_model."),
            "encoder.layers.0.self_attn.q_proj",
            "lora_A.weight",
            "lora_B.weight",
        ),
        (
            "text_encoder.",
            ("", "text_model."),
            "encoder.layers.0.self_attn.q_proj",
            "lora_linear_layer.down.weight",
            "lora_linear_layer.up.weight",
        ),
        (
            "text_encoder.",
            ("", "text_model."),
            "encoder.layers.0.self_attn",
            "to_q_lora.down.weight",
            "to_q_lora.up.weight",
        ),
        (
            "lora_te_",
            ("", "text_model_"),
            "encoder_layers_0_self_attn_q_proj",
            "lora_down.weight",
            "lora_up.weight",
        ),
        (
            "lora_te1_",
            ("", "text_model_"),
            "encoder_layers_0_self_attn_q_proj",
            "lora_down.weight",
            "lora_up.weight",
        ),
    )
    for middle in middles
]


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_of_a_unets_weight_is_understood(name: str, weights: Bundle) -> None:
    down, up = SPELLINGS[name]
    merged = weights.with_loras([({down: DOWN, up: UP}, 1.0)])
    found = held(merged, f"{ATTENTION}.to_q.weight")
    np.testing.assert_allclose(found, TO_Q + UP @ DOWN, **TOLERANCE)


@pytest.mark.parametrize(("down", "up"), TEXT_SPELLINGS)
def test_every_spelling_of_a_text_encoders_weight_is_understood(
    down: str, up: str, weights: Bundle
) -> None:
    merged = weights.with_loras([({down: DOWN, up: UP}, 1.0)])
    assert changed(weights, merged) == {f"{TEXT}.weight:transpose-1-0"}
    found = held(merged, f"{TEXT}.weight:transpose-1-0")
    np.testing.assert_allclose(found, (Q_PROJ + UP @ DOWN).T, **TOLERANCE)


def test_the_text_model_may_be_in_the_bundles_names_instead(tmp_path: Path) -> None:
    name = "text_encoder.text_model.encoder.layers.0.mlp.fc1.weight"
    bundle = Bundle.open(write_lora_bundle(tmp_path / "bundle", {name: TO_Q}))
    for module in ("text_encoder.encoder.layers.0.mlp.fc1", name.removesuffix(".weight")):
        found = held(bundle.with_loras([(pair(module), 1.0)]), name)
        np.testing.assert_allclose(found, TO_Q + UP @ DOWN, **TOLERANCE)


def test_the_second_text_encoder_has_a_prefix_of_its_own(weights: Bundle) -> None:
    name = "lora_te2_text_model_encoder_layers_0_mlp_fc1"
    merged = weights.with_loras(
        [({f"{name}.lora_down.weight": DOWN, f"{name}.lora_up.weight": UP}, 1.0)]
    )
    assert changed(weights, merged) == {"text_encoder_2.encoder.layers.0.mlp.fc1.weight"}


def test_an_output_projection_is_understood_without_its_number(weights: Bundle) -> None:
    name = f"{ATTENTION}.processor.to_out_lora"
    down = random(2, 6)
    merged = weights.with_loras([({f"{name}.down.weight": down, f"{name}.up.weight": UP}, 1.0)])
    tensor = f"{ATTENTION}.to_out.0.weight:unsqueeze-0-1"
    expected = WEIGHTS[tensor] + (UP @ down)[None, None]
    np.testing.assert_allclose(held(merged, tensor), expected, **TOLERANCE)


def test_alpha_over_rank_scales_the_change(weights: Bundle) -> None:
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    lora = {f"{name}.lora_down.weight": DOWN, f"{name}.lora_up.weight": UP}
    for alpha in (np.float32(1), np.array([1.0], np.float32)):
        merged = weights.with_loras([({**lora, f"{name}.alpha": np.asarray(alpha)}, 0.6)])
        expected = TO_Q + 0.6 * (1 / 2) * UP @ DOWN
        np.testing.assert_allclose(held(merged, f"{ATTENTION}.to_q.weight"), expected, **TOLERANCE)


def test_the_alpha_that_diffusers_writes_beside_the_tensors_counts(
    weights: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    save_file(PAIR, path, {"lora_adapter_metadata": '{"unet.lora_alpha": 8, "unet.r": 2}'})
    merged = weights.with_loras([(path, 1.0)])
    expected = TO_Q + 4 * UP @ DOWN
    np.testing.assert_allclose(held(merged, f"{ATTENTION}.to_q.weight"), expected, **TOLERANCE)


def test_convolutions_are_changed_kernel_by_kernel(weights: Bundle) -> None:
    name = "unet.down_blocks.0.resnets.0.conv1"
    down, up = random(2, 4, 3, 3), random(6, 2, 1, 1)
    merged = weights.with_loras([(pair(name, down, up), 1.0)])
    expected = CONV + np.einsum("or,rikl->oikl", up[:, :, 0, 0], down)
    np.testing.assert_allclose(held(merged, f"{name}.weight"), expected, **TOLERANCE)


def test_a_one_by_one_convolution_is_changed_where_it_is_held_as_a_matrix(weights: Bundle) -> None:
    name = f"{BLOCK}.proj_in"
    down, up = random(2, 4, 1, 1), random(6, 2, 1, 1)
    merged = weights.with_loras([(pair(name, down, up), 1.0)])
    expected = PROJ[:, :, 0, 0] + up[:, :, 0, 0] @ down[:, :, 0, 0]
    for tensor in (f"{name}.weight", f"{name}.weight:reshape-6-4"):
        found = held(merged, tensor)
        assert found.shape == WEIGHTS[tensor].shape
        np.testing.assert_allclose(found.reshape(6, 4), expected, **TOLERANCE)


def test_float16_is_rounded_once_to_nearest(weights: Bundle) -> None:
    name = f"{ATTENTION}.to_k"
    merged = weights.with_loras([(pair(name, DOWN, UP), 1.0)])
    found = held(merged, f"{name}.weight:float16")
    exact = TO_K.astype(np.float16).astype(np.float64) + UP.astype(np.float64) @ DOWN
    assert found.dtype == np.float16
    # Half a unit in the last place is 2^-11 of the number; the float32 sum adds next to nothing.
    np.testing.assert_allclose(found, exact, rtol=2**-11 + 1e-5, atol=1e-6)


def test_bfloat16_is_rounded_as_ml_dtypes_rounds_it(weights: Bundle) -> None:
    name = f"{ATTENTION}.to_v"
    # Powers of two: the product is exact, so every bit of the result is known.
    down, up = np.exp2(np.round(DOWN)), np.exp2(np.round(UP[:, :1])) * np.eye(1, 2)
    lora = pair(name, down, up.astype(np.float32))
    found = held(weights.with_loras([(lora, 0.125)]), f"{name}.weight:transpose-1-0:bfloat16")
    plain = TO_V.astype(BFLOAT16).astype(np.float32)
    expected = (plain + 0.125 * (up @ down).astype(np.float32)).T.astype(BFLOAT16)
    assert found.dtype == np.uint16
    assert np.array_equal(found.view(BFLOAT16), expected)


@pytest.mark.parametrize("dtype", [np.dtype("float32"), np.dtype("float16"), BFLOAT16])
def test_files_of_every_float_are_read(dtype: Any, weights: Bundle, tmp_path: Path) -> None:
    lora = {name: array.astype(dtype) for name, array in PAIR.items()}
    path = write_tensors(tmp_path / "style.safetensors", lora)
    merged = weights.with_loras([(str(path), 1.0)])
    down, up = (array.astype(dtype).astype(np.float32) for array in (DOWN, UP))
    found = held(merged, f"{ATTENTION}.to_q.weight")
    np.testing.assert_allclose(found, TO_Q + up @ down, **TOLERANCE)


def test_loras_add_up_at_once_and_one_after_the_other(weights: Bundle) -> None:
    other = {TO_Q_A: random(3, 4), TO_Q_B: random(6, 3)}
    expected = TO_Q + 0.5 * UP @ DOWN - 0.25 * other[TO_Q_B] @ other[TO_Q_A]
    at_once = weights.with_loras([(PAIR, 0.5), (other, -0.25)])
    in_turn = weights.with_loras([(PAIR, 0.5)]).with_loras([(other, -0.25)])
    for merged in (at_once, in_turn):
        found = held(merged, f"{ATTENTION}.to_q.weight")
        np.testing.assert_allclose(found, expected, **TOLERANCE)


def test_a_scale_of_zero_leaves_every_array_as_it_is(weights: Bundle) -> None:
    assert changed(weights, weights.with_loras([(PAIR, 0)])) == set()
    assert changed(weights, weights.with_loras([])) == set()


def test_a_last_layer_that_the_model_does_not_compute_is_left_out(tmp_path: Path) -> None:
    """SDXL reads the last layer but one; a bundle then has no final norm either."""
    names = [name for name in WEIGHTS if "final_layer_norm" not in name]
    folder = write_lora_bundle(tmp_path / "bundle", {name: WEIGHTS[name] for name in names})
    bundle = Bundle.open(folder)
    for module in (
        "text_encoder.text_model.encoder.layers.1.mlp.fc1",
        "lora_te1_text_model_encoder_layers_1_mlp_fc1",
    ):
        merged = bundle.with_loras([({**PAIR, **pair(module)}, 1.0)])
        found = held(merged, f"{ATTENTION}.to_q.weight")
        np.testing.assert_allclose(found, TO_Q + UP @ DOWN, **TOLERANCE)
