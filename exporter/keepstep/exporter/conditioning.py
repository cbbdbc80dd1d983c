"""What a plan may take besides prompt and noise: a size, and a picture to start from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from keepstep.runtime import Player
from keepstep.runtime.errors import InputError
from keepstep.runtime.wording import listed


def micro_conditions(player: Player) -> dict[str, np.ndarray]:
    """SDXL's `time_ids` and `negative_time_ids`, float32 (B, 6), of a plan that has them.

    A row is original height and width, crop top and left, target height and width: a picture that
    was neither resized nor cropped. Source: Podell et al., "SDXL", arXiv:2307.01952, section 2.2.
    """
    names = [name for name in ("time_ids", "negative_time_ids") if name in player.inputs]
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
    if expected is None and path is None:
        return {}
    if path is None:
        raise InputError(
            f"plan {player.plan.name!r} starts from a picture: give one with --init-image"
        )
    if expected is None:
        raise InputError(
            f"plan {player.plan.name!r} does not start from a picture: leave --init-image out, or "
            f"choose another plan; its inputs: {listed(player.inputs)}"
        )
    batch, height, width, _ = expected.shape
    try:
        with Image.open(path) as photo:
            upright = ImageOps.exif_transpose(photo).convert("RGB")
        fitted = _middle(upright, width, height).resize((width, height), Image.Resampling.LANCZOS)
    except Exception as error:  # decoders raise whatever the fault of a file leads to
        raise InputError(f"{path}: cannot be read as a picture: {error}") from error
    return {"init_image": np.tile(np.asarray(fitted), (batch, 1, 1, 1))}


def _middle(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The largest middle part of a picture in the proportions of width to height."""
    across = max(1, min(picture.width, round(picture.height * width / height)))
    down = max(1, min(picture.height, round(picture.width * height / width)))
    left, top = (picture.width - across) // 2, (picture.height - down) // 2
    return picture.crop((left, top, left + across, top + down))
