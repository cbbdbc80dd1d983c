"""Outlines of the eight bodies, and where each has room for a face and for what is on top."""

from __future__ import annotations

import math
from dataclasses import dataclass

from recipe.canvas import Point, arc, ellipse


@dataclass(frozen=True)
class Body:
    """What a drawing needs to know of a body.

    outline    closed, before its corners are rounded by `round_by`
    face       the middle of the face
    face_size  of 1, how large the face can be
    top        where a hat sits
    spread     half of the gap between two horns, and `horns` how high they sit
    """

    outline: tuple[Point, ...]
    round_by: float
    face: Point
    face_size: float
    top: float
    spread: float
    horns: float


def _star() -> tuple[Point, ...]:
    angles = [math.radians(-90 + 36 * i) for i in range(10)]
    radii = [1.08, 0.66] * 5
    return tuple(
        (r * math.cos(a), r * math.sin(a) + 0.06) for r, a in zip(radii, angles, strict=True)
    )


def _heart() -> tuple[Point, ...]:
    right = arc((0.46, -0.3), 0.5, 0.5, -157, 38, 40)
    return (*right, (0, 0.96), *((-x, y) for x, y in reversed(right)))


def _drop() -> tuple[Point, ...]:
    return (*arc((0, 0.22), 0.78, 0.78, -30, 210, 48), (0, -1.12))


def _flower() -> tuple[Point, ...]:
    turn = [2 * math.pi * i / 120 for i in range(120)]
    radii = [0.86 + 0.16 * math.cos(6 * t) for t in turn]
    return tuple((r * math.sin(t), -r * math.cos(t)) for r, t in zip(radii, turn, strict=True))


BODIES = {
    "circle": Body(tuple(ellipse((0, 0), 0.9, 0.9)), 0.06, (0, 0.02), 1.0, -0.88, 0.56, -0.72),
    "square": Body(
        ((-0.7, -0.7), (0.7, -0.7), (0.7, 0.7), (-0.7, 0.7)),
        *(0.2, (0, 0.02), 1.0, -0.86, 0.56, -0.88),
    ),
    "triangle": Body(
        ((0, -0.98), (1.02, 0.74), (-1.02, 0.74)), 0.16, (0, 0.28), 0.84, -0.92, 0.42, -0.46
    ),
    "diamond": Body(
        ((0, -1.02), (1.02, 0), (0, 1.02), (-1.02, 0)), 0.12, (0, 0), 0.88, -0.96, 0.5, -0.62
    ),
    "star": Body(_star(), 0.1, (0, 0.12), 0.8, -0.92, 0.42, -0.52),
    "heart": Body(_heart(), 0.06, (0, -0.02), 0.92, -0.66, 0.54, -0.78),
    "drop": Body(_drop(), 0.08, (0, 0.24), 0.9, -0.94, 0.48, -0.46),
    "flower": Body(_flower(), 0.06, (0, 0.02), 0.94, -0.92, 0.54, -0.72),
}
