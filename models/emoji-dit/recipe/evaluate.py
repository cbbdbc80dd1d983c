"""Draw with the exported folder, as a user would, and measure. Writes evaluation.json."""

from __future__ import annotations

import json
import math
import random
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import PixArtSigmaPipeline
from recipe_common.folder import sizes
from recipe_common.sheet import sheet
from recipe_common.training import checkpoint_path, load_checkpoint
from rich.progress import track

from recipe import judge
from recipe.attributes import COMBINATIONS, VALUES, Face, held_out_face, trained_face
from recipe.denoiser import draw
from recipe.settings import EVALUATION, PICTURES, Recipe

PARTS = ("transformer", "text_encoder", "vae", "tokenizer", "scheduler")


def measure(recipe: Recipe, work: Path, output: Path) -> None:
    """All figures of the model card, and its sheet."""
    torch.manual_seed(0)
    pipeline = PixArtSigmaPipeline.from_pretrained(output)
    referee = judge.load_trained(recipe, work)
    on_drawings, psnr = judge.examine(referee, recipe)
    faces = asked(recipe.seed)
    drawn = {
        name: draw_many(pipeline, some, first_seed, f"samples, {name}")
        for first_seed, (name, some) in zip((0, 100_000), faces.items(), strict=True)
    }
    contact_sheet(faces, drawn).save(output / "samples.png", optimize=True)
    facts = load_checkpoint(checkpoint_path(work, recipe.name, "denoiser"))
    report = {
        "recipe": recipe.name,
        "training": {
            "minutes": round(facts["minutes"], 1),
            "steps": facts["step"],
            "samples": facts["samples"],
            "threads": torch.get_num_threads(),
        },
        "data": {"pictures": PICTURES, "combinations": COMBINATIONS},
        "sampling": {
            "scheduler": type(pipeline.scheduler).__name__,
            "steps": EVALUATION.steps,
            "guidance_scale": EVALUATION.guidance,
        },
        "right": {
            "drawings through the autoencoder": counted(on_drawings),
            **{name: counted(referee.right(drawn[name], faces[name])) for name in faces},
        },
        "chance": round(math.prod(1 / len(options) for options in VALUES.values()), 6),
        "autoencoder_psnr_db": round(psnr, 1),
        "seconds_for_one_picture": round(time_one(pipeline, faces["trained pairs"][0]), 1),
        "threads": torch.get_num_threads(),
        "megabytes": sizes(output, PARTS),
        "parameters": {
            name: sum(p.numel() for p in getattr(pipeline, name).parameters()) for name in PARTS[:3]
        },
    }
    (output / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n")


def asked(seed: int) -> dict[str, list[Face]]:
    """What is asked for, drawn at random: pairs of shape and colour from training, and others."""
    chance = random.Random(seed + 3)
    return {
        "trained pairs": [trained_face(chance) for _ in range(EVALUATION.trained)],
        "held-out pairs": [held_out_face(chance) for _ in range(EVALUATION.held_out)],
    }


def draw_many(
    pipeline: PixArtSigmaPipeline, faces: list[Face], first_seed: int, title: str
) -> np.ndarray:
    """One sample a face: uint8 (N, 128, 128, 3)."""
    drawn = []
    for start in track(range(0, len(faces), EVALUATION.batch), title):
        prompts = [face.caption for face in faces[start : start + EVALUATION.batch]]
        seed = first_seed + start
        drawn.append(draw(pipeline, prompts, EVALUATION.steps, EVALUATION.guidance, seed))
    return np.concatenate(drawn)


def counted(right: np.ndarray) -> dict[str, Any]:
    """Pictures (N, 5) with each attribute right, and with all, as a share with its interval."""
    columns = {name: right[:, i] for i, name in enumerate(VALUES)} | {"all five": right.all(axis=1)}
    shares = {name: wilson(int(column.sum()), len(column)) for name, column in columns.items()}
    return {"pictures": len(right), **shares}


def wilson(count: int, of: int, z: float = 1.96) -> list[float]:
    """[share, low, high]: Wilson's interval, which holds the true share 19 times in 20."""
    share = count / of
    middle = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    reach = z / (1 + z**2 / of) * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    return [
        round(value, 3) for value in (share, max(0.0, middle - reach), min(1.0, middle + reach))
    ]


def contact_sheet(faces: dict[str, list[Face]], drawn: dict[str, np.ndarray]) -> Any:
    """The first samples of both kinds, as they came; nothing is picked."""
    counts = dict(zip(faces, EVALUATION.on_sheet, strict=True))
    captions = [face.caption for name in faces for face in faces[name][: counts[name]]]
    shown = np.concatenate([drawn[name][: counts[name]] for name in faces])
    wrapped = ["\n".join(textwrap.wrap(text, EVALUATION.caption_width)) for text in captions]
    return sheet(shown, wrapped, EVALUATION.columns)


def time_one(pipeline: PixArtSigmaPipeline, face: Face) -> float:
    """Seconds that a user waits for one picture."""
    start = time.monotonic()
    draw(pipeline, [face.caption], EVALUATION.steps, EVALUATION.guidance, 0)
    return time.monotonic() - start
