"""Write the averaged weights as a diffusers folder, half precision, file by file."""

from __future__ import annotations

from pathlib import Path

from recipe_common.folder import write_folder
from recipe_common.training import checkpoint_path, with_averages
from transformers import CLIPTokenizer

from recipe import autoencoder, denoiser, pictures
from recipe.settings import Recipe


def write(recipe: Recipe, work: Path, output: Path) -> None:
    """Replace the model in `output` by the checkpoint's averaged weights."""
    data = pictures.training_set(pictures.load(work), recipe)
    words = denoiser.make_tokenizer(recipe, data)
    model = load_averaged(recipe, words, work)
    vae = autoencoder.load_trained(recipe, work)
    pipeline = denoiser.pipeline_of(model, vae, words)

    def add(folder: Path) -> None:
        """The two files that tokenizers written before tokenizer.json read."""
        words.backend_tokenizer.model.save(str(folder / "tokenizer"))

    write_folder(pipeline, output, work, add)


def load_averaged(recipe: Recipe, words: CLIPTokenizer, work: Path) -> denoiser.Denoiser:
    """UNet and text encoder with the checkpoint's averaged weights."""
    path = checkpoint_path(work, recipe.name, "denoiser")
    return with_averages(denoiser.Denoiser(recipe, words), path)
