"""The command line of a recipe: its steps, each of which goes on where it was."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch

R = TypeVar("R")
Step = Callable[[R, argparse.Namespace], bool]  # whether it is finished


def run(
    steps: Mapping[str, Step[R]], recipes: Mapping[str, R], work: Path, output: Path, text: str
) -> int:
    """Take the steps that the command line names; gives the exit status, 3 for one not finished.

    recipes  by name, the usual one first; work, output: the usual folders; text: the help's
    """
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=[*steps, "all"])
    parser.add_argument("--recipe", choices=[*recipes], default=next(iter(recipes)))
    parser.add_argument("--work", type=Path, default=work, help="data and checkpoints")
    parser.add_argument("--output", type=Path, default=output, help="the diffusers folder")
    parser.add_argument("--max-minutes", type=float, help="stop after so long; exit status 3")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.threads:
        torch.set_num_threads(options.threads)
    for step in steps if options.step == "all" else [options.step]:
        if not steps[step](recipes[options.recipe], options):
            print(f"{step}: not finished; run the same command again to go on")
            return 3
    return 0
