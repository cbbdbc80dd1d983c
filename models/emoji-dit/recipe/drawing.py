"""A face as pixels: the body, its face, what is on top, each time a little different."""

from __future__ import annotations

import math
import random

import numpy as np

from recipe.attributes import Face
from recipe.canvas import Canvas, Colour, View
from recipe.details import EXTRAS, EYES, HORN, HORN_EDGE, MOUTHS
from recipe.settings import DRAWING
from recipe.shapes import BODIES, Body

PALETTE: dict[str, Colour] = {
    "red": (228, 48, 48),
    "orange": (250, 138, 24),
    "yellow": (254, 214, 44),
    "green": (70, 180, 76),
    "blue": (52, 126, 236),
    "purple": (146, 78, 210),
    "pink": (252, 150, 196),
    "brown": (146, 96, 58),
}
HORN_SIZE = 1.3
EDGE = 0.07  # of the unit: the darker rim
# Each horn is a curved triangle: base, base, tip.
HORN_OUTLINE = ((-0.2, 0.14), (0.14, 0.14), (0.24, -0.12), (0.2, -0.46), (0.0, -0.22))


def draw(face: Face, chance: random.Random) -> np.ndarray:
    """uint8 (128, 128, 3) on white; place, size, slant and colour vary within `DRAWING`."""
    body, canvas = BODIES[face.shape], Canvas()
    view = View(
        centre=(
            DRAWING.centre[0] + chance.uniform(-1, 1) * DRAWING.shift,
            DRAWING.centre[1] + chance.uniform(-1, 1) * DRAWING.shift,
        ),
        unit=DRAWING.unit * (1 + chance.uniform(-1, 1) * DRAWING.stretch),
        angle=math.radians(chance.uniform(-1, 1) * DRAWING.slant),
    )
    main = _vary(PALETTE[face.colour], chance)
    if face.extra == "horns":
        _horns(canvas, view, body)
    canvas.fill(view, body.outline, _mixed(main, 0, 0.4), body.round_by + EDGE)
    shades = (_mixed(main, 255, 0.22), _mixed(main, 0, 0.1))
    canvas.fill_shaded(view, body.outline, shades, body.round_by)
    inside = view.inside(body.face, body.face_size)
    EYES[face.eyes](canvas, inside)
    MOUTHS[face.mouth](canvas, inside)
    if face.extra in EXTRAS:
        EXTRAS[face.extra](canvas, view.inside((0, body.top), 1.0))
    return canvas.finished()


def _horns(canvas: Canvas, view: View, body: Body) -> None:
    for side in (-1, 1):
        spot = view.inside((side * body.spread, body.horns), HORN_SIZE)
        outline = [(side * x, y) for x, y in HORN_OUTLINE]
        canvas.fill(spot, outline, HORN_EDGE, 0.1)
        canvas.fill(spot, outline, HORN, 0.04)


def _vary(colour: Colour, chance: random.Random) -> Colour:
    reach = DRAWING.colour
    red, green, blue = (min(255, max(0, c + chance.randint(-reach, reach))) for c in colour)
    return red, green, blue


def _mixed(colour: Colour, other: int, share: float) -> Colour:
    """With black (0) or white (255)."""
    red, green, blue = (round(c + (other - c) * share) for c in colour)
    return red, green, blue
