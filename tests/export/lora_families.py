"""Families of transformers with a LoRA: random factors in several names, played and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from export.drawn import PROMPT, distance
from torch import nn
from transformers_for_tests import LATENT, T5_LENGTH, write_flux, write_pixart, write_sd3

from keepstep.exporter.schedule.schema import parse
from keepstep.runtime import Bundle

# PyTorch adds a LoRA's product to a layer's output, we add it to the weight: float32 rounding in
# another order, over a few calls; the project's bar for full plans.
TOLERANCE = 1e-4
# What random text encoders change, behind random transformers, is not much more than this.
SEEN = 20 * TOLERANCE

SCALE = 0.7
RANK = 4
STEPS = 3
GUIDANCE_SCALE = 3.0
NEGATIVE = "r"
SCHEDULE = parse(f"keepstep: 1\nname: own\nsampler: {{steps: {STEPS}}}\ncalls: {{repeat: F}}")

Factors = Mapping[str, tuple[np.ndarray, np.ndarray]]  # (down, up) by component and module


@dataclass(frozen=True)
class Family:
    """A folder of a family, and where its LoRAs have factors.

    tabled   part of the names of the transformer's layers that a bundle holds as tables
    clips    encoders that diffusers' loader knows
    t5       the encoder that it does not know
    """

    write: Callable[[Path], Path]
    channels: int
    tabled: str
    clips: tuple[str, ...]
    t5: str
    how: Mapping[str, object]


# Of the sizes in test_transformers.py: what its exports have built is not built again.
T5: Mapping[str, object] = {"max_sequence_length": T5_LENGTH}
FAMILIES = {
    "sd3": Family(  # 3.5, which has all that 3 has and a second attention in some blocks
        lambda folder: write_sd3(folder, qk_norm="rms_norm", dual_attention_layers=(0, 1)),
        channels=8,
        tabled="timestep_embedder",
        clips=("text_encoder", "text_encoder_2"),
        t5="text_encoder_3",
        how=T5,
    ),
    "pixart": Family(
        write_pixart,
        channels=4,
        tabled="adaln_single",
        clips=(),
        t5="text_encoder",
        how={**T5, "clean_caption": False, "use_resolution_binning": False},
    ),
    "flux": Family(
        write_flux,
        channels=4,
        tabled="timestep_embedder",
        clips=("text_encoder",),
        t5="text_encoder_2",
        how=T5,
    ),
}


@dataclass(frozen=True)
class Exported:
    """A family's folder, its bundle, and what it gives without a LoRA."""

    family: Family
    folder: Path
    bundle: Bundle
    plain: np.ndarray

    def pipeline(self) -> Any:
        found = diffusers.DiffusionPipeline.from_pretrained(self.folder)
        found.set_progress_bar_config(disable=True)
        return found

    def factors(self, *components: str) -> Factors:
        """Random ones for every linear layer of `components` that LoRAs change."""
        pipeline, rng, found = self.pipeline(), np.random.default_rng(5), {}
        for component in components:
            for path, module in getattr(pipeline, component).named_modules():
                if isinstance(module, nn.Linear) and self.family.tabled not in path:
                    out, inner = module.weight.shape
                    down = rng.standard_normal((RANK, inner)) / np.sqrt(inner)
                    up = 0.4 * rng.standard_normal((out, RANK))
                    pair = down.astype(np.float32), up.astype(np.float32)
                    found[f"{component}.{path}"] = pair
        return found

    def played(self, *loras: tuple[Any, float]) -> np.ndarray:
        return played(self.bundle.with_loras(loras), self.family)["latents"]

    def agrees(self, lora: Any, pipeline: Any) -> None:
        """Latents with the LoRA at `SCALE` are those of diffusers' pipeline that has it, too."""
        theirs = drawn(pipeline, self.family)
        assert distance(self.played((lora, SCALE)), theirs) <= TOLERANCE
        assert distance(self.plain, theirs) >= SEEN, "a LoRA that changes next to nothing"


def noise(family: Family) -> np.ndarray:
    shape = (1, family.channels, LATENT, LATENT)
    return np.random.default_rng(3).standard_normal(shape, dtype=np.float32)


def played(bundle: Bundle, family: Family) -> dict[str, np.ndarray]:
    with bundle.player(SCHEDULE.name, threads=1) as player:
        guided = "negative_token_ids" in player.inputs
        told = player.encode(PROMPT, NEGATIVE if guided else None)
        scale = np.array(GUIDANCE_SCALE, np.float32)
        return player.run({**told, "noise": noise(family), "guidance_scale": scale})


def drawn(pipeline: Any, family: Family) -> np.ndarray:
    """Latents (B, C, h, w) of diffusers' pipeline."""
    latents = torch.from_numpy(noise(family))
    flux = isinstance(pipeline, diffusers.FluxPipeline)
    made = pipeline(
        prompt=PROMPT,
        height=2 * LATENT,
        width=2 * LATENT,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE_SCALE,
        latents=pipeline._pack_latents(latents, *latents.shape) if flux else latents,
        output_type="latent",
        **family.how,
        **({} if flux else {"negative_prompt": NEGATIVE}),
    ).images
    if flux:
        made = pipeline._unpack_latents(made, 2 * LATENT, 2 * LATENT, pipeline.vae_scale_factor)
    return np.asarray(made)


def loaded(pipeline: Any, path: Path) -> Any:
    """The pipeline with a LoRA, as diffusers itself reads it."""
    pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name="style")
    pipeline.set_adapters(["style"], [SCALE])
    return pipeline


def diffusers_names(factors: Factors) -> Iterator[tuple[str, np.ndarray]]:
    for module, (down, up) in factors.items():
        yield f"{module}.lora_A.weight", down
        yield f"{module}.lora_B.weight", up


def kohya_names(factors: Factors, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    """`prefix` in the place of the component, and half of the strength by `alpha`."""
    for module, (down, up) in factors.items():
        name = "_".join([prefix, *module.split(".")[1:]])
        yield f"{name}.lora_down.weight", down
        yield f"{name}.lora_up.weight", up
        yield f"{name}.alpha", np.array(RANK / 2, np.float32)


def kohyas_flux(exported: Exported, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Every layer of the blocks, of BFL's names and shapes, and CLIP's layers."""
    network = exported.pipeline().transformer
    width = network.inner_dim
    double = {
        f"{stream}_{name}": (out * width, inner * width)
        for stream in ("img", "txt")
        for name, out, inner in (
            ("attn_qkv", 3, 1),
            ("attn_proj", 1, 1),
            ("mlp_0", 4, 1),
            ("mlp_2", 1, 4),
            ("mod_lin", 6, 1),
        )
    }
    single = {
        "linear1": (7 * width, width),
        "linear2": (width, 5 * width),
        "modulation_lin": (3 * width, width),
    }
    for kind, shapes in (("double", double), ("single", single)):
        for i in range(2):
            for name, (out, inner) in shapes.items():
                down = rng.standard_normal((RANK, inner)) / np.sqrt(inner)
                pair = down.astype(np.float32), rng.standard_normal((out, RANK), np.float32)
                yield from kohya_names({f"-.{kind}_blocks.{i}.{name}": pair}, "lora_unet")
    yield from kohya_names(exported.factors("text_encoder"), "lora_te1_text_model")


def merged_by_hand(pipeline: Any, factors: Factors, scale: float) -> Any:
    """The pipeline whose weights are W + scale · up @ down."""
    for module, (down, up) in factors.items():
        component, _, path = module.partition(".")
        weight = getattr(pipeline, component).get_submodule(path).weight
        with torch.no_grad():
            weight += scale * torch.from_numpy(up @ down)
    return pipeline
