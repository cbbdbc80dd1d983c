"""Eyes, mouths, and what a face has on top: each drawn in its own small coordinates."""

from __future__ import annotations

from collections.abc import Callable

from recipe.canvas import Canvas, Colour, Point, View, arc, ellipse, mirrored

DARK: Colour = (52, 34, 40)
WHITE: Colour = (255, 255, 255)
TONGUE: Colour = (240, 96, 120)
GOLD: Colour = (248, 190, 40)
GOLD_EDGE: Colour = (186, 120, 20)
BOW: Colour = (236, 56, 150)
BOW_EDGE: Colour = (160, 24, 96)
HORN: Colour = (196, 36, 48)
HORN_EDGE: Colour = (110, 16, 30)
HAT: Colour = (48, 50, 62)
BAND: Colour = (210, 52, 60)
PARTY: Colour = (40, 190, 200)
PARTY_EDGE: Colour = (20, 110, 130)
PARTY_STRIPE: Colour = (250, 230, 90)

Draw = Callable[[Canvas, View], None]
APART, ACROSS = 0.4, 0.24  # of two eyes: half of their gap, and the radius of each
THICK = 0.11


def _both(draw: Callable[[Canvas, View, float], None]) -> Draw:
    """`draw` at each side, told which: -1 is left."""

    def drawn(canvas: Canvas, view: View) -> None:
        for side in (-1.0, 1.0):
            draw(canvas, view.inside((side * APART, -0.2), 1.0), side)

    return drawn


def _ball(canvas: Canvas, view: View, radius: float) -> None:
    canvas.fill(view, ellipse((0, 0), radius + 0.05, radius + 0.05), DARK)
    canvas.fill(view, ellipse((0, 0), radius, radius), WHITE)
    canvas.fill(view, ellipse((0, 0.02), radius * 0.55, radius * 0.55), DARK)
    canvas.fill(view, ellipse((-0.15 * radius, -0.2 * radius), radius * 0.18, radius * 0.18), WHITE)


def _angry(canvas: Canvas, view: View, side: float) -> None:
    canvas.fill(view, ellipse((-0.02 * side, 0.08), 0.14, 0.14), DARK)
    canvas.stroke(view, [(-0.2 * side, -0.06), (0.24 * side, -0.26)], THICK, DARK)


def _dizzy(canvas: Canvas, view: View, side: float) -> None:
    reach = 0.17
    canvas.stroke(view, [(-reach, -reach), (reach, reach)], THICK, DARK)
    canvas.stroke(view, [(-reach, reach), (reach, -reach)], THICK, DARK)


EYES: dict[str, Draw] = {
    "round eyes": _both(lambda canvas, view, side: _ball(canvas, view, ACROSS)),
    "sleepy eyes": _both(
        lambda canvas, view, side: canvas.stroke(
            view, arc((0, -0.04), ACROSS, 0.2, 10, 170), THICK, DARK
        )
    ),
    "happy eyes": _both(
        lambda canvas, view, side: canvas.stroke(
            view, arc((0, 0.1), ACROSS, 0.26, 190, 350), THICK, DARK
        )
    ),
    "angry eyes": _both(_angry),
    "dizzy eyes": _both(_dizzy),
    "one eye": lambda canvas, view: _ball(canvas, view.inside((0, -0.22), 1.0), 0.34),
}


def _grin(canvas: Canvas, view: View) -> None:
    whole = [(-0.42, 0.26), *reversed(arc((0, 0.26), 0.42, 0.42, 0, 180))]
    canvas.fill(view, whole, DARK, 0.05)
    canvas.fill(view, whole, WHITE)


def _open(canvas: Canvas, view: View) -> None:
    canvas.fill(view, ellipse((0, 0.46), 0.22, 0.27), DARK)
    canvas.fill(view, ellipse((0, 0.57), 0.14, 0.12), TONGUE)


def _tongue(canvas: Canvas, view: View) -> None:
    tip = [(-0.15, 0.42), (0.15, 0.42), *arc((0, 0.62), 0.15, 0.16, 0, 180)]
    canvas.fill(view, tip, DARK, 0.05)
    canvas.fill(view, tip, TONGUE)
    canvas.stroke(view, [(-0.34, 0.4), (0.34, 0.4)], THICK, DARK)


MOUTHS: dict[str, Draw] = {
    "a smile": lambda canvas, view: canvas.stroke(
        view, arc((0, 0.24), 0.38, 0.34, 15, 165), THICK, DARK
    ),
    "a frown": lambda canvas, view: canvas.stroke(
        view, arc((0, 0.68), 0.36, 0.32, 195, 345), THICK, DARK
    ),
    "a grin": _grin,
    "an open mouth": _open,
    "a flat mouth": lambda canvas, view: canvas.stroke(
        view, [(-0.3, 0.46), (0.3, 0.46)], THICK, DARK
    ),
    "a tongue": _tongue,
}


def _top_hat(canvas: Canvas, view: View) -> None:
    canvas.fill(view, [(-0.36, -0.66), (0.36, -0.66), (0.32, 0), (-0.32, 0)], HAT, 0.03)
    canvas.fill(view, [(-0.34, -0.22), (0.34, -0.22), (0.33, -0.06), (-0.33, -0.06)], BAND)
    canvas.stroke(view, [(-0.58, 0), (0.58, 0)], 0.14, HAT)


def _party_hat(canvas: Canvas, view: View) -> None:
    cone = [(0, -0.62), (0.4, 0.06), (-0.4, 0.06)]
    canvas.fill(view, cone, PARTY_EDGE, 0.06)
    canvas.fill(view, cone, PARTY)
    canvas.fill(view, [(-0.16, -0.34), (0.16, -0.34), (0.25, -0.17), (-0.25, -0.17)], PARTY_STRIPE)
    canvas.fill(view, ellipse((0, -0.62), 0.12, 0.12), PARTY_STRIPE)


def _crown(canvas: Canvas, view: View) -> None:
    band = [
        *((-0.46, 0.04), (-0.54, -0.5), (-0.24, -0.22), (0, -0.62)),
        *((0.24, -0.22), (0.54, -0.5), (0.46, 0.04)),
    ]
    canvas.fill(view, band, GOLD_EDGE, 0.05)
    canvas.fill(view, band, GOLD)
    for x in (-0.24, 0.0, 0.24):
        canvas.fill(view, ellipse((x, -0.08), 0.07, 0.07), BAND)


def _bow(canvas: Canvas, view: View) -> None:
    loop: list[Point] = [(0, -0.08), (0.5, -0.36), (0.5, 0.2)]
    for outline in (loop, mirrored(loop)):
        canvas.fill(view, outline, BOW_EDGE, 0.11)
        canvas.fill(view, outline, BOW, 0.06)
    canvas.fill(view, ellipse((0, -0.08), 0.19, 0.19), BOW_EDGE)
    canvas.fill(view, ellipse((0, -0.08), 0.14, 0.14), BOW)


def _halo(canvas: Canvas, view: View) -> None:
    ring = ellipse((0, -0.32), 0.52, 0.17)
    canvas.stroke(view, [*ring, ring[0]], 0.17, GOLD_EDGE)
    canvas.stroke(view, [*ring, ring[0]], 0.1, GOLD)


EXTRAS: dict[str, Draw] = {
    "a top hat": _top_hat,
    "a party hat": _party_hat,
    "a crown": _crown,
    "a bow": _bow,
    "a halo": _halo,
}
