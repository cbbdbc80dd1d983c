"""Draw with the exported folder, as a user would, and measure. Writes evaluation.json."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, PNDMScheduler, StableDiffusionPipeline
from recipe_common.folder import sizes
from recipe_common.latents import decode, encode, psnr
from recipe_common.sheet import sheet
from recipe_common.training import checkpoint_path, load_checkpoint
from rich.progress import track

from recipe import frechet, pictures
from recipe.pictures import PictureSet
from recipe.settings import Recipe

GUIDANCE = 5.0
STEPS = 10  # of DPM-Solver++: a hundred pictures in minutes, on a CPU too
TIMED_STEPS = 50  # of the scheduler that the folder names
MAX_TRAINED, MAX_UNSEEN = 100, 16
# The last four are pictures that the selection does not call `often`.
SHEET = (
    "a red apple", "a green apple", "a banana", "a strawberry", "a lemon", "an orange",
    "a carrot", "a donut", "a fish", "a cat face", "a panda face", "a red car",
    "a rocket", "a sunflower", "a pine tree", "a balloon", "a soccer ball", "a red heart",
    "a blue heart", "a green heart", "a cat", "a green book", "a tomato", "a red apple, flat",
)  # fmt: skip
COLUMNS = 6


def measure(recipe: Recipe, work: Path, output: Path) -> None:
    """All figures of the model card, and its sheet."""
    torch.manual_seed(0)
    pipeline = StableDiffusionPipeline.from_pretrained(output)
    pipeline.set_progress_bar_config(disable=True)
    own = pipeline.scheduler
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(own.config)
    everything = pictures.load(work)
    trained = pictures.training_set(everything, recipe)
    unseen = pictures.held_out(everything)
    drawn_trained = draw(pipeline, trained, "samples, trained names", MAX_TRAINED)
    numbers = {p.caption: i for i, p in enumerate(trained.pictures[: len(drawn_trained)])}
    shown = [text for text in SHEET if text in numbers]
    sheet(drawn_trained[[numbers[text] for text in shown]], shown, COLUMNS).save(
        output / "samples.png", optimize=True
    )
    drawn_unseen = draw(pipeline, unseen, "samples, held-out names", MAX_UNSEEN)
    network = frechet.Vgg16Features(work / "downloads").eval()
    sets = {
        "samples of trained captions": drawn_trained,
        "samples of held-out captions": drawn_unseen,
        "training pictures": trained.pixels,
        "held-out pictures": unseen.pixels,
        "training pictures through the autoencoder": reconstruct(pipeline, trained.pixels),
    }
    found = {name: frechet.features(network, pixels) for name, pixels in sets.items()}
    found["one half of the training pictures"] = found["training pictures"][0::2]
    found["the other half"] = found["training pictures"][1::2]
    pairs = (
        ("one half of the training pictures", "the other half"),
        ("training pictures through the autoencoder", "training pictures"),
        ("samples of trained captions", "training pictures"),
        ("samples of trained captions", "held-out pictures"),
        ("samples of held-out captions", "held-out pictures"),
        ("training pictures", "held-out pictures"),
    )
    report = {
        "recipe": recipe.name,
        "training": training_facts(recipe, work),
        "data": {
            "training pictures": dict(Counter(picture.style for picture in trained.pictures)),
            "training names": len({picture.name for picture in trained.pictures}),
            "held-out names": len({picture.name for picture in unseen.pictures}),
            "rows an epoch": len(pictures.training_rows(trained, recipe)),
        },
        "sampling": {
            "scheduler": type(pipeline.scheduler).__name__,
            "steps": STEPS,
            "timed_scheduler": type(own).__name__,
            "timed_steps": TIMED_STEPS,
            "guidance_scale": GUIDANCE,
        },
        "fd_vgg": [
            {
                "of": one,
                "against": other,
                "pictures": [len(found[one]), len(found[other])],
                "fd": round(frechet.distance(found[one], found[other]), 1),
            }
            for one, other in pairs
        ],
        "nearest_is_own": nearest_is_own(found, trained, recipe),
        "autoencoder_psnr_db": round(psnr(reconstruct(pipeline, unseen.pixels), unseen.pixels), 1),
        "seconds_for_one_picture": round(time_one(pipeline, own), 1),
        "threads": torch.get_num_threads(),
        "megabytes": sizes(output, ("unet", "text_encoder", "vae", "tokenizer", "scheduler")),
        "parameters": {
            name: sum(p.numel() for p in getattr(pipeline, name).parameters())
            for name in ("unet", "text_encoder", "vae")
        },
    }
    (output / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n")


def draw(pipeline: StableDiffusionPipeline, data: PictureSet, title: str, limit: int) -> np.ndarray:
    """One sample a caption of `data`, at most `limit`: uint8 (N, 128, 128, 3)."""
    captions = [picture.caption for picture in data.pictures][:limit]
    drawn = []
    for start in track(range(0, len(captions), 8), title):
        batch = captions[start : start + 8]
        seeds = [torch.Generator().manual_seed(start + i) for i in range(len(batch))]
        drawn.append(
            pipeline(
                batch,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=seeds,
                output_type="np",
            ).images
        )
    return (np.concatenate(drawn) * 255).round().astype(np.uint8)


def nearest_is_own(
    found: dict[str, np.ndarray], trained: PictureSet, recipe: Recipe
) -> dict[str, list[int]]:
    """Samples whose nearest training picture, on VGG features, is that of their own caption.

    [how many, of how many], for the pictures shown often and for the others.
    """
    samples = found["samples of trained captions"]
    gaps = np.linalg.norm(samples[:, None] - found["training pictures"][None], axis=-1)
    own = gaps.argmin(1) == np.arange(len(samples))
    shown = np.bincount(pictures.training_rows(trained, recipe))[: len(samples)]
    often = shown > 1
    return {
        "often": [int(own[often].sum()), int(often.sum())],
        "others": [int(own[~often].sum()), int((~often).sum())],
    }


def reconstruct(pipeline: StableDiffusionPipeline, pixels: np.ndarray) -> np.ndarray:
    latents = encode(pipeline.vae, pixels) * pipeline.vae.config.scaling_factor
    return decode(pipeline.vae, latents)


def time_one(pipeline: StableDiffusionPipeline, scheduler: PNDMScheduler) -> float:
    """Seconds that a user waits for one picture with the folder's own scheduler."""
    pipeline.scheduler = scheduler
    start = time.monotonic()
    pipeline("a red apple", num_inference_steps=TIMED_STEPS, guidance_scale=GUIDANCE)
    return time.monotonic() - start


def training_facts(recipe: Recipe, work: Path) -> dict[str, float]:
    """How long and how far each part was trained, from the checkpoints."""
    parts = {
        part: load_checkpoint(checkpoint_path(work, recipe.name, part))
        for part in ("autoencoder", "autoencoder-polished", "denoiser")
    }
    facts: dict[str, float] = {}
    for part, state in parts.items():
        facts[f"{part} minutes"] = round(state["minutes"], 1)
        facts[f"{part} steps"] = state["step"]
    facts["denoiser samples"] = parts["denoiser"]["samples"]
    return facts
