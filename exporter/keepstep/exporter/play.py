"""What `keepstep run` does: a prompt becomes a PNG file, or arrays become arrays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from keepstep.runtime import Player
from keepstep.runtime.errors import InputError, KeepstepError
from keepstep.runtime.inputs import checked_input
from keepstep.runtime.wording import listed

from .conditioning import init_image, run_inputs

Progress = Callable[[int, int, Any], None]


@dataclass(frozen=True)
class Request:
    """What a user asks for."""

    prompt: str
    negative_prompt: str | None = None
    guidance_scale: float | None = None  # the usual one, of a plan that has guidance
    seed: int = 0
    init_image: Path | None = None


def lora(text: str) -> tuple[str, float]:
    """A LoRA's file and scale from FILE or FILE:SCALE; any other colon is a part of the name."""
    file, _, scale = text.rpartition(":")
    try:
        return (file, float(scale)) if file else (text, 1.0)
    except ValueError:
        return text, 1.0


def check_target(path: Path, ending: str) -> None:
    """Refuse a file that cannot be written, before any work is done."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder: give the name of a file to write")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}: make it, or choose another")
    if path.suffix.lower() != ending:
        raise InputError(f"{path}: expected a name that ends in {ending}: that is what is written")


def inputs_of(player: Player, request: Request) -> dict[str, Any]:
    """What a request becomes: everything that `player.run` takes."""
    if request.seed < 0:
        raise InputError(f"seed is {request.seed}: give 0 or more")
    return run_inputs(
        player,
        request.prompt,
        request.negative_prompt,
        guidance_scale=request.guidance_scale,
        seed=request.seed,
        start=init_image(player, request.init_image),
    )


def save_inputs(player: Player, inputs: Mapping[str, Any], path: Path) -> None:
    """Write inputs as arrays of the plan's types, as `arrays` and the C++ runtime take them."""
    unknown = [name for name in inputs if name not in player.inputs]
    if unknown:
        raise InputError(
            f"plan {player.plan.name!r} does not take what a prompt becomes: it has no input "
            f"{listed(unknown)}; its inputs: {listed(player.inputs)}"
        )
    typed = {
        name: checked_input(name, x, player.inputs[name], player.plan.values[name].range)
        for name, x in inputs.items()
    }
    contiguous = {name: np.asarray(x, order="C") for name, x in typed.items()}
    write_beside(path, lambda draft: save_file(contiguous, draft))


def picture(
    player: Player, inputs: Mapping[str, Any], path: Path, progress: Progress | None
) -> float:
    """Draw into the PNG file `path`, a batch side by side; gives the seconds."""
    start = time.perf_counter()
    outputs = player.run(inputs, progress)
    seconds = time.perf_counter() - start
    sheet = np.concatenate(list(outputs["image"]), axis=1)
    write_beside(path, lambda draft: Image.fromarray(sheet).save(draft, format="PNG"))
    return seconds


def arrays(player: Player, source: Path, target: Path, progress: Progress | None) -> float:
    """Feed the arrays of one safetensors file and write the outputs to another."""
    try:
        inputs = load_file(source)
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{source}: cannot be read as a safetensors file: {error}") from error
    except (TypeError, AttributeError) as error:  # bfloat16, float8: numpy has no such dtype
        raise InputError(f"{source}: holds a dtype that numpy does not have: {error}") from error
    start = time.perf_counter()
    outputs = player.run(inputs, progress)
    seconds = time.perf_counter() - start
    write_beside(target, lambda draft: save_file(outputs, draft))
    return seconds


def write_beside(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and rename it, so that it is never seen half written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(draft)
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error  # without the draft's name
        raise KeepstepError(
            f"{path}: cannot be written: {why}; nothing was left behind: free some space or "
            "choose another place, and run again"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
