"""A bundle with a LoRA gives what diffusers' own pipeline gives with it; nothing is exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from exports_for_tests import SAMPLERS
from safetensors.numpy import save_file

from keepstep.runtime import Bundle

PLAN = "ddim"
PROMPT = "a red apple"
GUIDANCE_SCALE = 4.0
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
    unet = diffusers.UNet2DConditionModel.from_pretrained(tiny_folder / "unet")
    pipeline = _pipeline(tiny_folder)
    found = {}
    rng = np.random.default_rng(5)
    for component, network, endings in (
        ("unet", unet, (*LINEAR, *CONVOLUTIONS)),
        ("text_encoder", pipeline.text_encoder, TEXT),
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
    noise = np.random.default_rng(3).standard_normal((1, 4, 16, 16), dtype=np.float32)

    plain = _played(samplers_bundle, noise)
    ours = _played(samplers_bundle.with_loras([(path, SCALE)]), noise)
    theirs = _drawn(tiny_folder, path, noise)

    assert _distance(ours, theirs) <= TOLERANCE
    assert _distance(plain, theirs) >= 0.1, "a LoRA that changes next to nothing"
    assert np.array_equal(_played(samplers_bundle, noise), plain), "the first bundle is as it was"


def test_a_lora_at_scale_zero_changes_no_bit(
    factors: Mapping[str, tuple[np.ndarray, np.ndarray]], samplers_bundle: Bundle
) -> None:
    noise = np.random.default_rng(3).standard_normal((1, 4, 16, 16), dtype=np.float32)
    bundle = samplers_bundle.with_loras([(dict(_peft(factors)), 0.0)])
    assert np.array_equal(_played(bundle, noise), _played(samplers_bundle, noise))


def _played(bundle: Bundle, noise: np.ndarray) -> np.ndarray:
    with bundle.player(PLAN) as player:
        inputs = {"noise": noise, "guidance_scale": GUIDANCE_SCALE}
        return player.run(player.encode(PROMPT) | inputs)["latents"]


def _drawn(folder: Path, lora: Path, noise: np.ndarray) -> np.ndarray:
    """Latents of StableDiffusionPipeline with the LoRA, from the same start noise."""
    pipeline = _pipeline(folder)
    pipeline.load_lora_weights(lora.parent, weight_name=lora.name, adapter_name="style")
    pipeline.set_adapters(["style"], [SCALE])
    settings = dict(SAMPLERS[PLAN])
    cls, steps = getattr(diffusers, str(settings.pop("scheduler"))), settings.pop("steps")
    pipeline.scheduler = cls.from_config(pipeline.scheduler.config, **settings)
    result = pipeline(
        PROMPT,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE_SCALE,
        latents=torch.from_numpy(noise),
        output_type="latent",
    )
    return np.asarray(result.images)


def _pipeline(folder: Path) -> diffusers.StableDiffusionPipeline:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _distance(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
