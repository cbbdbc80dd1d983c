"""A LoRA in the names of original checkpoints lands where diffusers puts such a checkpoint.

The oracles are two pieces of diffusers: what reads original checkpoints (a LoRA's products are
one, of differences), and what reads kohya's files for FLUX.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from diffusers.loaders import single_file_utils
from runtime.lora_bundle import pair, write_lora_bundle

from keepstep.runtime import Bundle, InputError

Shapes = Mapping[str, tuple[int, int]]

RANK = 6  # diffusers looks at files whose rank is a multiple of 3 or 4 more closely
# One product of a handful of terms in another order of rounding.
TOLERANCE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}

# The widths of the real model where diffusers has them as constants, in few columns.
WIDTH, MLP, FEW = 3072, 4 * 3072, 4
DOUBLE: Shapes = {
    f"{stream}_{name}": (out, 5)
    for stream in ("img", "txt")
    for name, out in (
        ("attn.qkv", 24),
        ("attn.proj", 8),
        ("mlp.0", 32),
        ("mlp.2", 8),
        ("mod.lin", 48),
    )
}
FLUX: Shapes = {
    **dict.fromkeys(("img_in", "txt_in", "final_layer.linear"), (8, 5)),
    **{f"{name}.in_layer": (8, 3) for name in ("vector_in", "guidance_in")},
    **{f"{name}.out_layer": (8, 7) for name in ("vector_in", "guidance_in")},
    "final_layer.adaLN_modulation.1": (16, 5),
    **{f"double_blocks.{i}.{name}": shape for i in range(2) for name, shape in DOUBLE.items()},
    **{f"single_blocks.{i}.linear1": (3 * WIDTH + MLP, FEW) for i in range(2)},
    **{f"single_blocks.{i}.linear2": (8, 10) for i in range(2)},
    **{f"single_blocks.{i}.modulation.lin": (24, 5) for i in range(2)},
}
FLUX_TIME: Shapes = {"time_in.in_layer": (8, 3), "time_in.out_layer": (8, 7)}
FLUX_NORMS = [
    *(
        f"double_blocks.{i}.{stream}_attn.norm.{part}_norm.scale"
        for i in range(2)
        for stream in ("img", "txt")
        for part in ("query", "key")
    ),
    *(f"single_blocks.{i}.norm.{part}_norm.scale" for i in range(2) for part in ("query", "key")),
]

JOINT: Shapes = {
    **{f"{stream}_block.attn.qkv": (24, 5) for stream in ("x", "context")},
    "x_block.attn.proj": (8, 5),
    "x_block.mlp.fc1": (32, 5),
    "x_block.mlp.fc2": (8, 7),
    "x_block.adaLN_modulation.1": (48, 5),
}
NOT_LAST: Shapes = {
    "context_block.attn.proj": (8, 5),
    "context_block.mlp.fc1": (32, 5),
    "context_block.mlp.fc2": (8, 7),
    "context_block.adaLN_modulation.1": (48, 5),
    "x_block.attn2.qkv": (24, 5),
    "x_block.attn2.proj": (8, 5),
}
SD3: Shapes = {
    **dict.fromkeys(("x_embedder.proj", "context_embedder", "final_layer.linear"), (8, 5)),
    "y_embedder.mlp.0": (8, 3),
    "y_embedder.mlp.2": (8, 7),
    "final_layer.adaLN_modulation.1": (16, 5),
    **{f"joint_blocks.{i}.{name}": shape for i in range(2) for name, shape in JOINT.items()},
    **{f"joint_blocks.0.{name}": shape for name, shape in NOT_LAST.items()},
    "joint_blocks.1.context_block.adaLN_modulation.1": (16, 5),
}
SD3_TIME: Shapes = {"t_embedder.mlp.0": (8, 3), "t_embedder.mlp.2": (8, 7)}

FAMILIES: Mapping[str, tuple[Shapes, Shapes, list[str], Callable[..., dict[str, Any]]]] = {
    "flux": (
        FLUX,
        FLUX_TIME,
        FLUX_NORMS,
        single_file_utils.convert_flux_transformer_checkpoint_to_diffusers,
    ),
    "sd3": (
        SD3,
        SD3_TIME,
        ["pos_embed"],
        single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers,
    ),
}


def factors(shapes: Shapes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random (down, up) by original name."""
    rng = np.random.default_rng(7)
    return {
        name: (
            rng.standard_normal((RANK, inner), dtype=np.float32),
            rng.standard_normal((out, RANK), dtype=np.float32),
        )
        for name, (out, inner) in shapes.items()
    }


def converted(name: str) -> dict[str, np.ndarray]:
    """up @ down of every layer, as diffusers converts a checkpoint of them: by its path."""
    shapes, time, others, convert = FAMILIES[name]
    checkpoint = {f"{key}.weight": torch.zeros(shape) for key, shape in time.items()}
    for key, (down, up) in factors(shapes).items():
        checkpoint[f"{key}.weight"] = torch.from_numpy(up @ down)
    checkpoint |= {f"{k[:-7]}.bias": torch.zeros(len(w)) for k, w in checkpoint.items()}
    checkpoint |= dict.fromkeys(others, torch.zeros(1))
    found = convert(checkpoint)
    assert not checkpoint, "diffusers knows every name"
    layers = {k: np.asarray(w) for k, w in found.items() if k.endswith(".weight") and w.ndim == 2}
    return {key: w for key, w in layers.items() if "timestep_embedder" not in key}


def bundle_of(folder: Path, weights: Mapping[str, np.ndarray]) -> Bundle:
    """Zeros in the places of `weights`, transposed as exporters store them."""
    names = {f"transformer.{key}:transpose-1-0": np.zeros_like(w).T for key, w in weights.items()}
    return Bundle.open(write_lora_bundle(folder, names))


def kohya(name: str, down: np.ndarray, up: np.ndarray, alpha: float) -> dict[str, np.ndarray]:
    key = "lora_unet_" + name.replace(".", "_")
    return {
        f"{key}.lora_down.weight": down,
        f"{key}.lora_up.weight": up,
        f"{key}.alpha": np.array(alpha, np.float32),
    }


def check(bundle: Bundle, expected: Mapping[str, np.ndarray], scale: float = 1.0) -> None:
    for key, weight in expected.items():
        found = bundle.array("weights.safetensors", f"transformer.{key}:transpose-1-0")
        np.testing.assert_allclose(found.T, scale * weight, **TOLERANCE, err_msg=key)


SPELLINGS: Mapping[str, Callable[[str, Any, Any], dict[str, np.ndarray]]] = {
    "kohya": lambda name, down, up: kohya(name, down, up, RANK),
    "comfyui": lambda name, down, up: pair(f"diffusion_model.{name}", down, up),
    "peft": lambda name, down, up: pair(f"base_model.model.{name}", down, up),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_lie_where_diffusers_puts_those_of_a_checkpoint(
    family: str, spelling: str, tmp_path: Path
) -> None:
    expected = converted(family)
    bundle = bundle_of(tmp_path / "bundle", expected)
    lora: dict[str, np.ndarray] = {}
    for name, (down, up) in factors(FAMILIES[family][0]).items():
        lora |= SPELLINGS[spelling](name, down, up)
    check(bundle.with_loras([(lora, 1.0)]), expected)


# In diffusers' names: before the path, between its parts, and before the factors.
BY_PATH = {
    "diffusers": ("transformer.", ".", ".lora_A", ".lora_B"),
    "a model by itself": ("", ".", ".lora_A", ".lora_B"),
    "peft": ("base_model.model.", ".", ".lora_A", ".lora_B"),
    "an adapter's name": ("transformer.", ".", ".lora_A.style", ".lora_B.style"),
    "older diffusers": ("transformer.", ".", ".lora.down", ".lora.up"),
    "onetrainer": ("lora_transformer_", "_", ".lora_down", ".lora_up"),
}


@pytest.mark.parametrize("spelling", BY_PATH)
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_known_by_their_paths(family: str, spelling: str, tmp_path: Path) -> None:
    before, between, first, second = BY_PATH[spelling]
    expected = converted(family)
    bundle = bundle_of(tmp_path / "bundle", expected)
    lora: dict[str, np.ndarray] = {}
    for key, weight in expected.items():
        name = before + key.removesuffix(".weight").replace(".", between)
        lora[f"{name}{first}.weight"] = np.eye(weight.shape[1], dtype=np.float32)
        lora[f"{name}{second}.weight"] = weight
    check(bundle.with_loras([(lora, 0.5)]), expected, 0.5)


# Diffusers converts these and then leaves them out, as their names have no `transformer.`.
LEFT_OUT = ("img_in", "txt_in", "vector_in", "guidance_in", "final_layer")


def test_kohyas_files_are_read_as_diffusers_reads_them(tmp_path: Path) -> None:
    expected = converted("flux")
    bundle = bundle_of(tmp_path / "bundle", expected)
    lora: dict[str, np.ndarray] = {}
    for name, (down, up) in factors(FLUX).items():
        if not name.startswith(LEFT_OUT):
            lora |= kohya(name, down, up, RANK / 2)
    theirs = FluxPipeline.lora_state_dict({k: torch.tensor(a) for k, a in lora.items()})
    assert all(key.startswith("transformer.") for key in theirs)
    as_diffusers = bundle.with_loras([({k: np.asarray(t) for k, t in theirs.items()}, 1.0)])
    ours = bundle.with_loras([(lora, 1.0)])
    changed = 0
    for key in expected:
        name = f"transformer.{key}:transpose-1-0"
        first, second = (b.array("weights.safetensors", name) for b in (ours, as_diffusers))
        np.testing.assert_allclose(first, second, **TOLERANCE, err_msg=key)
        changed += bool(first.any())
    assert changed == 2 * (2 * 7) + 2 * 6, "every layer of the blocks"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_timesteps_layers_are_refused_in_original_names(family: str, tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "bundle", converted(family))
    for name, (down, up) in factors(FAMILIES[family][1]).items():
        for spelling in SPELLINGS.values():
            with pytest.raises(InputError, match="which the bundle holds as a table: merge"):
                bundle.with_loras([(spelling(name, down, up), 1.0)])


@pytest.mark.parametrize(
    ("family", "name", "rows"),
    [
        ("flux", "double_blocks.0.img_attn.qkv", "8, 8, 8 rows"),
        ("flux", "single_blocks.1.linear1", "3072, 3072, 3072, 12288 rows"),
        ("sd3", "joint_blocks.1.context_block.attn.qkv", "8, 8, 8 rows"),
    ],
)
def test_fused_layers_of_other_sizes_are_refused(
    family: str, name: str, rows: str, tmp_path: Path
) -> None:
    bundle = bundle_of(tmp_path / "bundle", converted(family))
    ((down, up),) = factors({name: FAMILIES[family][0][name]}).values()
    with pytest.raises(InputError) as caught:
        bundle.with_loras([(kohya(name, down, up[:-1], 1.0), 1.0)])
    for word in (name.replace(".", "_"), f"[{len(up) - 1}, ", rows, "another architecture"):
        assert word in str(caught.value)


def test_names_of_one_family_are_not_taken_for_anothers(tmp_path: Path) -> None:
    for family, name in (("flux", "joint_blocks.0.x_block.attn.qkv"), ("sd3", "img_in")):
        bundle = bundle_of(tmp_path / family, converted(family))
        with pytest.raises(InputError, match="the LoRA is for another architecture"):
            bundle.with_loras([(pair(f"diffusion_model.{name}"), 1.0)])


def test_a_layer_is_given_once_fused_or_not(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "bundle", converted("sd3"))
    name = "joint_blocks.0.x_block.attn.qkv"
    ((down, up),) = factors({name: SD3[name]}).values()
    to_k = pair("transformer.transformer_blocks.0.attn.to_k", down, up[:8])
    with pytest.raises(InputError, match=r"attn\.to_k' is given in two spellings"):
        bundle.with_loras([(kohya(name, down, up, 1.0) | to_k, 1.0)])
