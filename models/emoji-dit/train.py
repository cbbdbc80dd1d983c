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
from pathlib import Path

import torch
from recipe.settings import CPU, MODEL_FOLDER, WORK_FOLDER, Recipe


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


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=[*STEPS, "all"])
    parser.add_argument("--work", type=Path, default=WORK_FOLDER, help="latents and checkpoints")
    parser.add_argument("--output", type=Path, default=MODEL_FOLDER, help="the diffusers folder")
    parser.add_argument("--max-minutes", type=float, help="stop after so long; exit status 3")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.threads:
        torch.set_num_threads(options.threads)
    for step in STEPS if options.step == "all" else [options.step]:
        if not STEPS[step](CPU, options):
            print(f"{step}: not finished; run the same command again to go on")
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
