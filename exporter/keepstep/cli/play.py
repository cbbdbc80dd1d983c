"""What `keepstep run` does: a prompt becomes a PNG file, or arrays become arrays."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from keepstep.output.result_file import write_beside
from keepstep.playing.conditioning import init_image, run_inputs
from keepstep.runtime import Player
from keepstep.runtime.errors import InputError
from keepstep.runtime.files import read_regular
from keepstep.runtime.memory.inputs import checked_input
from keepstep.runtime.wording import listed, told

MOST_INPUT_BYTES = 2**30  # of a file of inputs; those of a plan take kilobytes to megabytes

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
    inputs = _arrays_in(source)
    start = time.perf_counter()
    outputs = player.run(inputs, progress)
    seconds = time.perf_counter() - start
    write_beside(target, lambda draft: save_file(outputs, draft))
    return seconds


def _arrays_in(source: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file; raises `InputError`."""
    try:
        arrays: dict[str, np.ndarray] = load(read_regular(source, MOST_INPUT_BYTES))
        return arrays
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"{source}: cannot be read as a safetensors file: {told(error)}"
        ) from error
    except KeyError as error:  # bfloat16, float8
        raise InputError(f"{source}: holds a dtype that numpy does not have: {error}") from error
