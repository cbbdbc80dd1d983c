"""Train, export and measure models/emoji from an empty folder. See README.md.

    python train.py data                       download the pictures, split the names
    python train.py autoencoder                pictures to latents and back
    python train.py denoiser                   UNet and text encoder together
    python train.py export                     write the diffusers folder
    python train.py evaluate                   draw, measure, fill in the model card
    python train.py all                        the five in a row

Every step can be killed and run again: it goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from recipe.settings import MODEL_FOLDER, RECIPES, WORK_FOLDER, Recipe
from recipe_common.steps import run


def data(recipe: Recipe, options: argparse.Namespace) -> bool:
    from recipe import pictures

    pictures.prepare(options.work)
    return True


def autoencoder(recipe: Recipe, options: argparse.Namespace) -> bool:
    from recipe import autoencoder, pictures

    everything = pictures.load(options.work)
    seen = pictures.not_held_out(everything)
    if not autoencoder.train(recipe, seen, options.work, options.max_minutes):
        return False
    finished = autoencoder.polish(recipe, seen, options.work, options.max_minutes)
    model = autoencoder.load_trained(recipe, options.work)
    unseen = pictures.held_out(everything).pixels[:12]
    autoencoder.reconstruction_sheet(model, unseen).save(options.work / "reconstructions.png")
    return finished


def denoiser(recipe: Recipe, options: argparse.Namespace) -> bool:
    from recipe import denoiser, pictures

    chosen = pictures.training_set(pictures.load(options.work), recipe)
    return denoiser.train(recipe, chosen, options.work, options.max_minutes)


def export(recipe: Recipe, options: argparse.Namespace) -> bool:
    from recipe import export

    export.write(recipe, options.work, options.output)
    return True


def evaluate(recipe: Recipe, options: argparse.Namespace) -> bool:
    from recipe import card, evaluate
    from recipe_common.card import fill_in

    evaluate.measure(recipe, options.work, options.output)
    fill_in(options.output, card.figures)
    return True


STEPS: dict[str, Callable[[Recipe, argparse.Namespace], bool]] = {
    "data": data,
    "autoencoder": autoencoder,
    "denoiser": denoiser,
    "export": export,
    "evaluate": evaluate,
}


if __name__ == "__main__":
    sys.exit(run(STEPS, RECIPES, WORK_FOLDER, MODEL_FOLDER, __doc__ or ""))
