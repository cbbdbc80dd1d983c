"""Train, export and measure models/emoji-dit from an empty folder. See README.md.

    python train.py data                       draw the pictures, keep their latents
    python train.py denoiser                   transformer and text encoder together
    python train.py export                     write the diffusers folder
    python train.py judge                      the network that reads attributes off pictures
    python train.py evaluate                   draw, measure, fill in the model card
    python train.py all                        the five in a row

Every step can be killed and run again: it goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from recipe.settings import CPU, MODEL_FOLDER, WORK_FOLDER, Recipe
from recipe_common.steps import run


def data(recipe: Recipe, options: argparse.Namespace) -> bool:
    from recipe import pictures

    pictures.prepare(recipe, options.work)
    return True


def denoiser(recipe: Recipe, options: argparse.Namespace) -> bool:
    from recipe import denoiser

    return denoiser.train(recipe, options.work, options.max_minutes)


def export(recipe: Recipe, options: argparse.Namespace) -> bool:
    from recipe import export

    export.write(recipe, options.work, options.output)
    return True


def judge(recipe: Recipe, options: argparse.Namespace) -> bool:
    from recipe import judge

    return judge.train(recipe, options.work, options.max_minutes)


def evaluate(recipe: Recipe, options: argparse.Namespace) -> bool:
    from recipe import card, evaluate
    from recipe_common.card import fill_in

    evaluate.measure(recipe, options.work, options.output)
    fill_in(options.output, card.figures)
    return True


STEPS: dict[str, Callable[[Recipe, argparse.Namespace], bool]] = {
    "data": data,
    "denoiser": denoiser,
    "export": export,
    "judge": judge,
    "evaluate": evaluate,
}


if __name__ == "__main__":
    sys.exit(run(STEPS, {CPU.name: CPU}, WORK_FOLDER, MODEL_FOLDER, __doc__ or ""))
