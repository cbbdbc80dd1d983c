"""Write the averaged weights as a diffusers folder, half precision, file by file."""

from __future__ import annotations

from pathlib import Path

from recipe_common.folder import write_folder
from recipe_common.training import checkpoint_path, with_averages
from transformers import T5TokenizerFast

from recipe import denoiser, pictures, tokenizer
from recipe.settings import Recipe


def write(recipe: Recipe, work: Path, output: Path) -> None:
    """Replace the model in `output` by the checkpoint's averaged weights."""
    words = tokenizer.make()
    model = load_averaged(recipe, words, work)
    write_folder(denoiser.pipeline_of(model, pictures.load_vae(), words), output, work)


def load_averaged(recipe: Recipe, words: T5TokenizerFast, work: Path) -> denoiser.Denoiser:
    """Transformer and text encoder with the checkpoint's averaged weights."""
    path = checkpoint_path(work, recipe.name, "denoiser")
    return with_averages(denoiser.Denoiser(recipe, words), path)
