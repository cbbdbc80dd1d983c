"""The training pictures, drawn once and kept as latents of both sizes."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from recipe_common.latents import encode
from recipe_common.training import device
from rich.progress import track

from recipe.attributes import Face, trained_face
from recipe.drawing import draw
from recipe.settings import LATENT_SIZE, PICTURES, VAE_FOLDER, Recipe

CHUNK = 250  # pictures at once, so that progress is seen


@dataclass(frozen=True)
class Latents:
    """Captions, and scaled latents (N, 4, s, s) by their size s, in half precision."""

    captions: tuple[str, ...]
    by_size: dict[int, torch.Tensor]


def load_vae() -> AutoencoderKL:
    """That of `models/emoji`, as it is."""
    return AutoencoderKL.from_pretrained(VAE_FOLDER).eval()


def draw_all(faces: Iterable[Face], seed: int) -> np.ndarray:
    """uint8 (N, 128, 128, 3), the same for the same faces and seed."""
    chance = random.Random(seed)
    return np.stack([draw(face, chance) for face in faces])


def prepare(recipe: Recipe, work: Path) -> None:
    """Draw, encode, and write `latents.pt`."""
    chance = random.Random(recipe.seed)
    faces = [trained_face(chance) for _ in range(PICTURES)]
    vae = load_vae().to(device())
    found: dict[int, list[torch.Tensor]] = {LATENT_SIZE // 2: [], LATENT_SIZE: []}
    for start in track(range(0, PICTURES, CHUNK), "pictures"):
        pixels = draw_all(faces[start : start + CHUNK], recipe.seed + start)
        for size, parts in found.items():
            latents = encode(vae, pixels, half=size < LATENT_SIZE)
            parts.append((latents * vae.config.scaling_factor).half())
    by_size = {size: torch.cat(parts) for size, parts in found.items()}
    torch.save({"captions": [face.caption for face in faces], "by_size": by_size}, _file(work))


def load(work: Path) -> Latents:
    if not _file(work).exists():
        raise FileNotFoundError("no pictures yet: run `train.py data` first")
    state = torch.load(_file(work), weights_only=True)
    return Latents(tuple(state["captions"]), state["by_size"])


def _file(work: Path) -> Path:
    return work / "latents.pt"
