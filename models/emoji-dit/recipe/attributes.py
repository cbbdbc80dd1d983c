"""The five attributes of a picture, its caption, and which pairs are held out."""

from __future__ import annotations

import random
from dataclasses import astuple, dataclass

SHAPES = ("circle", "square", "triangle", "diamond", "star", "heart", "drop", "flower")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
EYES = ("round eyes", "sleepy eyes", "happy eyes", "angry eyes", "dizzy eyes", "one eye")
MOUTHS = ("a smile", "a frown", "a grin", "an open mouth", "a flat mouth", "a tongue")
EXTRAS = ("nothing", "a top hat", "a party hat", "a crown", "a bow", "horns", "a halo")
VALUES = {"shape": SHAPES, "colour": COLOURS, "eyes": EYES, "mouth": MOUTHS, "extra": EXTRAS}
COMBINATIONS = len(SHAPES) * len(COLOURS) * len(EYES) * len(MOUTHS) * len(EXTRAS)

# Never together in training; every shape and every colour once, so that each is known from the
# seven others that it does come with.
HELD_OUT = {
    "circle": "purple",
    "square": "yellow",
    "triangle": "pink",
    "diamond": "orange",
    "star": "green",
    "heart": "blue",
    "drop": "red",
    "flower": "brown",
}


@dataclass(frozen=True)
class Face:
    """What is to be seen in one picture; the fields are named as `VALUES`."""

    shape: str
    colour: str
    eyes: str
    mouth: str
    extra: str

    @property
    def caption(self) -> str:
        """ "a red heart with sleepy eyes, a smile and a top hat"; "nothing" isn't mentioned."""
        article = "an" if self.colour[0] in "aeiou" else "a"
        body = f"{article} {self.colour} {self.shape}"
        if self.extra == "nothing":
            return f"{body} with {self.eyes} and {self.mouth}"
        return f"{body} with {self.eyes}, {self.mouth} and {self.extra}"

    @property
    def held_out(self) -> bool:
        return HELD_OUT[self.shape] == self.colour

    @property
    def labels(self) -> list[int]:
        """The place of each attribute in its list."""
        pairs = zip(VALUES.values(), astuple(self), strict=True)
        return [options.index(value) for options, value in pairs]


def any_face(chance: random.Random) -> Face:
    """All values equally often, held-out pairs too."""
    return Face(*(chance.choice(options) for options in VALUES.values()))


def trained_face(chance: random.Random) -> Face:
    """As `any_face`, never a held-out pair."""
    while (face := any_face(chance)).held_out:
        pass
    return face


def held_out_face(chance: random.Random) -> Face:
    """As `any_face`, always a held-out pair."""
    face = any_face(chance)
    return Face(face.shape, HELD_OUT[face.shape], face.eyes, face.mouth, face.extra)


def all_captions() -> list[str]:
    """Each value in some caption: what the tokenizer has to know."""
    count = max(len(options) for options in VALUES.values())
    rows = [[options[i % len(options)] for options in VALUES.values()] for i in range(count)]
    return [Face(*row).caption for row in rows]
