"""A contact sheet: pictures in rows, each with its caption below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

LINE = 16  # pixels


def sheet(pictures: np.ndarray, captions: Sequence[str], columns: int) -> Image.Image:
    """Of uint8 pictures (N, side, side, 3). A line break in a caption is one on the sheet."""
    side = pictures.shape[1]
    label = LINE * max(1 + text.count("\n") for text in captions)
    rows = -(-len(captions) // columns)
    whole = Image.new("RGB", (columns * side, rows * (side + label)), "white")
    pen = ImageDraw.Draw(whole)
    for place, (picture, text) in enumerate(zip(pictures, captions, strict=True)):
        left, top = place % columns * side, place // columns * (side + label)
        whole.paste(Image.fromarray(picture), (left, top))
        middle = (left + side // 2, top + side + label // 2)
        pen.text(middle, text, fill="black", anchor="mm", align="center")
    return whole
