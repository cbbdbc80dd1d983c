"""All that a run is given: prompt, noise, guidance, a size, and a picture to start from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from keepstep.runtime import Player
from keepstep.runtime.errors import InputError
from keepstep.runtime.files import read_regular
from keepstep.runtime.format.plan import TensorType
from keepstep.runtime.quoting import quote_names, sanitize

MOST_PICTURE_BYTES = 512 * 2**20
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # no EPS: it is a program
GUIDANCE_SCALE = 5.0  # where none is given, and the plan has no defaults: format 1


def run_inputs(
    player: Player,
    prompt: str,
    negative_prompt: str | None = None,
    *,
    guidance_scale: float | None,
    seed: int,
    start: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Everything that `player.run` takes; `start` is what `init_image` or `grey` give.

    A scale of None is the plan's default, or the usual one. What the plan has a default for is left
    out unless it was asked for. Where a plan has no guidance there is none; raises
    `InputError` for a scale above 1 that is given to such a plan.
    """
    return {
        **start,
        **micro_conditions(player),
        **player.encode(prompt, negative_prompt),
        **noises(player.inputs, seed),
        **_guidance(player, guidance_scale),
    }


def _guidance(player: Player, scale: float | None) -> dict[str, float]:
    """The guidance scale of a plan that takes one."""
    if scale is None and _has_default(player, "guidance_scale"):
        return {}
    if "guidance_scale" in player.inputs:
        return {"guidance_scale": GUIDANCE_SCALE if scale is None else scale}
    if scale is not None and scale > 1:  # up to 1 diffusers leaves guidance out, too
        raise InputError(
            f"plan {player.plan.name!r} has no guidance, so a scale of {scale:g} has no effect on "
            "it: leave --guidance-scale out, or choose a plan with guidance"
        )
    return {}


def _has_default(player: Player, name: str) -> bool:
    """Whether the plan says what an input holds that is left out."""
    value = player.plan.values.get(name)
    return value is not None and value.default is not None


def noises(inputs: Mapping[str, TensorType], seed: int) -> dict[str, np.ndarray]:
    """Start noise, and what is added to token scores where a plan takes that, float32."""
    return {
        name: noise(inputs[name].shape, seed + i)
        for i, name in enumerate(("noise", "selection_noise"))
        if name in inputs
    }


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Standard normal float32 noise that is the same on every machine."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def grey(inputs: Mapping[str, TensorType]) -> dict[str, np.ndarray]:
    """The picture, uint8, that plans which start from one are measured with."""
    expected = inputs.get("init_image")
    return {} if expected is None else {"init_image": np.full(expected.shape, 128, np.uint8)}


def micro_conditions(player: Player) -> dict[str, np.ndarray]:
    """SDXL's `time_ids` and `negative_time_ids`, float32 (B, 6), of a plan that has them.

    A row is original height and width, crop top and left, target height and width: a picture that
    was neither resized nor cropped; later plans than those of format 1 say so
    themselves. Source: Podell et al., "SDXL", arXiv:2307.01952, section 2.2.
    """
    names = [
        name
        for name in ("time_ids", "negative_time_ids")
        if name in player.inputs and not _has_default(player, name)
    ]
    if not names:
        return {}
    batch, height, width, _ = player.outputs["image"].shape
    row = np.array([height, width, 0, 0, height, width], np.float32)
    return {name: np.tile(row, (batch, 1)) for name in names}


def init_image(player: Player, path: Path | None) -> dict[str, np.ndarray]:
    """The picture that an img2img plan starts from, uint8 (B, H, W, 3): the same for the batch.

    The middle of the picture is cut out in the plan's proportions and resized. Raises `InputError`
    for a file that is no picture, and where a plan takes one and none is given, or the reverse.
    """
    expected = player.inputs.get("init_image")
    if path is None and (expected is None or _has_default(player, "init_image")):
        return {}
    if path is None:
        raise InputError(
            f"plan {player.plan.name!r} starts from a picture: give one with --init-image"
        )
    if expected is None:
        raise InputError(
            f"plan {player.plan.name!r} does not start from a picture: leave --init-image out, or "
            f"choose another plan; its inputs: {quote_names(player.inputs)}"
        )
    batch, height, width, _ = expected.shape
    try:
        upright = _photo(read_regular(path, MOST_PICTURE_BYTES))
        fitted = _middle(upright, width, height).resize((width, height), Image.Resampling.LANCZOS)
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: cannot be read as a picture: no {', '.join(FORMATS)}: convert it to PNG"
        ) from error
    except Exception as error:  # decoders raise whatever the fault of a file leads to
        raise InputError(f"{path}: cannot be read as a picture: {sanitize(error)}") from error
    return {"init_image": np.tile(np.asarray(fitted), (batch, 1, 1, 1))}


def _photo(data: bytes) -> Image.Image:
    """The picture in a file, upright, RGB; raises whatever decoders do.

    Kilobytes may spell gigabytes, so more pixels than Pillow thinks sane are refused.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(BytesIO(data), formats=FORMATS) as photo:
            upright: Image.Image = ImageOps.exif_transpose(photo)
            return upright.convert("RGB")


def _middle(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The largest middle part of a picture in the proportions of width to height."""
    across = max(1, min(picture.width, round(picture.height * width / height)))
    down = max(1, min(picture.height, round(picture.width * height / width)))
    left, top = (picture.width - across) // 2, (picture.height - down) // 2
    return picture.crop((left, top, left + across, top + down))
