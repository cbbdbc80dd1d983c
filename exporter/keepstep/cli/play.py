"""What `keepstep run` does: a prompt becomes a PNG file, or arrays become arrays."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from keepstep.exporter.work import Progress
from keepstep.output.result_file import write_beside
from keepstep.playing.conditioning import init_image, run_inputs
from keepstep.playing.times import Times, times_of
from keepstep.runtime import Player
from keepstep.runtime.errors import InputError
from keepstep.runtime.files import read_regular
from keepstep.runtime.memory.inputs import checked_input
from keepstep.runtime.quoting import quote_names, sanitize

MOST_INPUT_BYTES = 2**30  # of a file of inputs; those of a plan take kilobytes to megabytes

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Played:
    """What a run gave."""

    outputs: Arrays
    seconds: float  # of the whole run; of several, the median
    times: Times | None = None  # where they went, if that was measured


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
            f"{quote_names(unknown)}; its inputs: {quote_names(player.inputs)}"
        )
    typed = {
        name: checked_input(name, x, player.inputs[name], player.plan.values[name].range)
        for name, x in inputs.items()
    }
    contiguous = {name: np.asarray(x, order="C") for name, x in typed.items()}
    write_beside(path, lambda part: save_file(contiguous, part))


def played(player: Player, inputs: Mapping[str, Any], report: Progress) -> Played:
    """One run, whose calls are told as they are done."""

    def told(done: int, total: int, _call: object) -> None:
        report(player.plan.name, done, total)

    start = time.perf_counter()
    outputs = player.run(inputs, told)
    return Played(outputs, time.perf_counter() - start)


def profiled(player: Player, inputs: Mapping[str, Any], repeat: int, report: Progress) -> Played:
    """One run that is measured; with `repeat`, so many more, and the times of those alone."""
    name = player.plan.name
    report(f"{name}: first run", 0, repeat + 1)
    first = player.profile(inputs)
    runs = []
    for done in range(repeat):
        report(f"{name}: run", done + 1, repeat + 1)
        runs.append(replace(player.profile(inputs), outputs={}))
    times = times_of(player.plan, runs or [first])
    return Played(first.outputs, times.seconds, times)


def write_picture(outputs: Arrays, path: Path) -> None:
    """Write the output `image`, uint8 (B, H, W, 3), as a PNG file, a batch side by side."""
    sheet = np.concatenate(list(outputs["image"]), axis=1)
    write_beside(path, lambda part: Image.fromarray(sheet).save(part, format="PNG"))


def write_arrays(outputs: Arrays, path: Path) -> None:
    """Write outputs as a safetensors file."""
    write_beside(path, lambda part: save_file(dict(outputs), part))


def arrays_in(source: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file; raises `InputError`."""
    try:
        arrays: dict[str, np.ndarray] = load(read_regular(source, MOST_INPUT_BYTES))
        return arrays
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"{source}: cannot be read as a safetensors file: {sanitize(error)}"
        ) from error
    except KeyError as error:  # bfloat16, float8
        raise InputError(f"{source}: holds a dtype that numpy does not have: {error}") from error
