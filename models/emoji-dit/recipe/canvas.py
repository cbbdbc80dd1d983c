"""Outlines and strokes in coordinates of a face, drawn large and brought down smoothly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from recipe.settings import PICTURE_SIZE

Point = tuple[float, float]
Colour = tuple[int, int, int]
LARGER = 3  # times, in which is drawn


@dataclass(frozen=True)
class View:
    """From coordinates (y down, the body about -1..1) to pixels of the large canvas."""

    centre: Point  # pixels of the picture
    unit: float  # pixels of the picture
    angle: float  # radians

    def length(self, value: float) -> float:
        return value * self.unit * LARGER

    def points(self, outline: Sequence[Point]) -> list[Point]:
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        scale, (left, top) = self.unit * LARGER, self.centre
        return [
            (
                left * LARGER + scale * (x * cos - y * sin),
                top * LARGER + scale * (x * sin + y * cos),
            )
            for x, y in outline
        ]

    def inside(self, middle: Point, size: float) -> View:
        """The view of a smaller part around `middle`."""
        ((x, y),) = self.points([middle])
        return View((x / LARGER, y / LARGER), self.unit * size, self.angle)


class Canvas:
    """A white square to draw on."""

    def __init__(self) -> None:
        self.side = PICTURE_SIZE * LARGER
        self.image = Image.new("RGB", (self.side, self.side), "white")
        self.pen = ImageDraw.Draw(self.image)

    def fill(
        self, view: View, outline: Sequence[Point], colour: Colour, round_by: float = 0.0
    ) -> None:
        """A closed outline; its corners rounded by growing it by `round_by` in all directions."""
        _fill(self.pen, view, outline, colour, round_by)

    def fill_shaded(
        self,
        view: View,
        outline: Sequence[Point],
        colours: tuple[Colour, Colour],
        round_by: float,
    ) -> None:
        """As `fill`, from the first colour at the top to the second at the bottom."""
        mask = Image.new("L", self.image.size, 0)
        _fill(ImageDraw.Draw(mask), view, outline, 255, round_by)
        left, top, right, bottom = mask.getbbox()
        share = np.linspace(0, 1, bottom - top)[:, None, None]
        shade = (1 - share) * np.array(colours[0]) + share * np.array(colours[1])
        rows = np.broadcast_to(shade.round().astype(np.uint8), (bottom - top, right - left, 3))
        box = (left, top, right, bottom)
        self.image.paste(Image.fromarray(np.ascontiguousarray(rows)), box, mask.crop(box))

    def stroke(self, view: View, path: Sequence[Point], width: float, colour: Colour) -> None:
        """An open path with round ends."""
        points, radius = view.points(path), view.length(width) / 2
        self.pen.line(points, colour, round(2 * radius), joint="curve")
        _dots(self.pen, (points[0], points[-1]), radius, colour)

    def finished(self) -> np.ndarray:
        """uint8 (128, 128, 3)."""
        size = (PICTURE_SIZE, PICTURE_SIZE)
        return np.asarray(self.image.resize(size, Image.Resampling.BOX))


def _fill(
    pen: ImageDraw.ImageDraw,
    view: View,
    outline: Sequence[Point],
    colour: Colour | int,
    round_by: float,
) -> None:
    points = view.points(outline)
    pen.polygon(points, colour)
    if round_by:
        radius = view.length(round_by)
        for (x, y), (u, v) in pairwise([*points, points[0]]):
            away = radius / max(math.hypot(u - x, v - y), 1e-6)
            across, down = (v - y) * away, (x - u) * away  # a right angle to the edge
            near, far = (x - across, y - down), (u - across, v - down)
            pen.polygon((near, far, (u + across, v + down), (x + across, y + down)), colour)
        _dots(pen, points, radius, colour)


def _dots(
    pen: ImageDraw.ImageDraw, points: Sequence[Point], radius: float, colour: Colour | int
) -> None:
    for x, y in points:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), colour)


def ellipse(middle: Point, across: float, down: float, count: int = 40) -> list[Point]:
    """A closed outline with these two radii."""
    return arc(middle, across, down, 0, 360 * (1 - 1 / count), count)


def arc(
    middle: Point, across: float, down: float, start: float, end: float, count: int = 24
) -> list[Point]:
    """From `start` to `end`, in degrees clockwise from the right."""
    angles = [math.radians(start + (end - start) * i / (count - 1)) for i in range(count)]
    return [(middle[0] + across * math.cos(a), middle[1] + down * math.sin(a)) for a in angles]


def mirrored(outline: Sequence[Point]) -> list[Point]:
    return [(-x, y) for x, y in outline]
