"""A bundle with a LoRA gives what diffusers' own pipeline gives with it; nothing is exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from export.drawn import distance, drawn, pipeline, played
from safetensors.numpy import save_file

from keepstep.runtime import Bundle

PLAN = "ddim"
SCALE = 0.7
RANK = 4

# PyTorch adds the LoRA's product to a layer's output, we add it to the weight: float32 rounding in
# another order, over eight calls of the network; the project's bar for full plans.
TOLERANCE = 1e-4

LINEAR = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "proj_in", "proj_out", "downsamplers.0.conv")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@pytest.fixture(scope="module")
def factors(tiny_folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random factors (down, up) for every kind of layer that LoRAs change, by module."""
    diffusers_own, _ = pipeline(tiny_folder, PLAN)
    found = {}
    rng = np.random.default_rng(5)
    for component, network, endings in (
        ("unet", diffusers_own.unet, (*LINEAR, *CONVOLUTIONS)),
        ("text_encoder", diffusers_own.text_encoder, TEXT),
    ):
        for name, weight in network.named_parameters():
            module = name.removesuffix(".weight")
            if module == name or not module.endswith(endings):
                continue
            out, inner, *kernel = weight.shape
            down = rng.standard_normal((RANK, inner, *kernel)) / np.sqrt(weight[0].numel())
            up = 0.4 * rng.standard_normal((out, RANK, *(1 for _ in kernel)))
            pair = (down.astype(np.float32), up.astype(np.float32))
            found[f"{component}.{module}"] = pair
    return found


def _peft(factors: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    for module, (down, up) in factors.items():
        module = module.replace("text_encoder.", "text_encoder.text_model.")
        yield f"{module}.lora_A.weight", down
        yield f"{module}.lora_B.weight", up


def _kohya(
    factors: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[str, np.ndarray]]:
    for module, (down, up) in factors.items():
        component, _, path = module.partition(".")
        prefix = {"unet": "lora_unet", "text_encoder": "lora_te_text_model"}[component]
        name = f"{prefix}_{path.replace('.', '_')}"
        yield f"{name}.lora_down.weight", down
        yield f"{name}.lora_up.weight", up
        yield f"{name}.alpha", np.array(RANK / 2, np.float32)


@pytest.mark.parametrize("spelling", [_peft, _kohya])
def test_a_picture_with_a_lora_equals_that_of_diffusers(
    spelling: type,
    factors: Mapping[str, tuple[np.ndarray, np.ndarray]],
    samplers_bundle: Bundle,
    tiny_folder: Path,
    tmp_path: Path,
) -> None:
    path = tmp_path / "style.safetensors"
    save_file(dict(spelling(factors)), path)

    plain = played(samplers_bundle, PLAN)["latents"]
    ours = played(samplers_bundle.with_loras([(path, SCALE)]), PLAN)["latents"]
    theirs = drawn(tiny_folder, PLAN, (path, SCALE))

    assert distance(ours, theirs) <= TOLERANCE
    assert distance(plain, theirs) >= 0.1, "a LoRA that changes next to nothing"
    after = played(samplers_bundle, PLAN)["latents"]
    assert np.array_equal(after, plain), "the first bundle is as it was"


def test_a_lora_at_scale_zero_changes_no_bit(
    factors: Mapping[str, tuple[np.ndarray, np.ndarray]], samplers_bundle: Bundle
) -> None:
    bundle = samplers_bundle.with_loras([(dict(_peft(factors)), 0.0)])
    with_it, without = (played(each, PLAN)["latents"] for each in (bundle, samplers_bundle))
    assert np.array_equal(with_it, without)
