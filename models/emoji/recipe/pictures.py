"""The pictures of both styles as one array, with a caption each, split by name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from recipe.captions import STYLES, caption
from recipe.settings import MODEL_FOLDER, PICTURE_SIZE, Recipe
from recipe.sources import FLUENT, NOTO, fetch

HELD_OUT_FILE = MODEL_FOLDER / "held_out.json"
HELD_OUT_GROUPS = {"Food & Drink", "Animals & Nature", "Objects", "Activities"}
# A mirrored flag, letter or arrow is another picture, so these groups are never flipped.
NEVER_FLIPPED = {"Flags", "Symbols", "Objects"}


@dataclass(frozen=True)
class Picture:
    """One row of the picture array."""

    name: str
    style: str
    group: str
    caption: str

    @property
    def can_flip(self) -> bool:
        return self.group not in NEVER_FLIPPED


@dataclass(frozen=True)
class PictureSet:
    """Pictures, and their pixels: uint8 (N, 128, 128, 3), on white."""

    pictures: tuple[Picture, ...]
    pixels: np.ndarray

    def where(self, keep: list[bool]) -> PictureSet:
        chosen = np.flatnonzero(keep)
        return PictureSet(tuple(self.pictures[i] for i in chosen), self.pixels[chosen])


def prepare(work: Path) -> None:
    """Download both styles, draw every base emoji on white, write pixels and table to `work`."""
    fluent = fetch(FLUENT, work / "downloads") / "package/assets"
    noto = fetch(NOTO, work / "downloads") / "package"
    rows = json.loads((noto / "emoji.json").read_text())
    pictures: list[Picture] = []
    pixels: list[np.ndarray] = []
    for row in track(sorted(rows, key=lambda row: row["sort_order"]), "pictures"):
        name = (row["name"] or row["short_name"]).lower()
        codes = [code.lower() for code in (row["unified"], row["non_qualified"]) if code]
        files = {
            "3d": [fluent / f"{code}.webp" for code in codes],
            "flat": [noto / "img/google/64" / row["image"]],
        }
        for style, candidates in files.items():
            found = [file for file in candidates if file.exists()]
            if found:
                pictures.append(Picture(name, style, row["category"], caption(name, style)))
                pixels.append(draw_on_white(found[0]))
    np.save(work / "pictures.npy", np.stack(pixels))
    table = [asdict(picture) for picture in pictures]
    (work / "pictures.json").write_text(json.dumps(table, indent=1))
    HELD_OUT_FILE.write_text(json.dumps(choose_held_out(pictures), indent=1) + "\n")


def draw_on_white(file: Path) -> np.ndarray:
    """An RGBA file as uint8 (128, 128, 3)."""
    drawn = Image.open(file).convert("RGBA")
    drawn = drawn.resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.LANCZOS)
    white = Image.new("RGBA", drawn.size, "white")
    white.alpha_composite(drawn)
    return np.asarray(white.convert("RGB"))


def choose_held_out(pictures: list[Picture]) -> list[str]:
    """One name in twelve, by hash, so that the choice never moves; none that `cpu` trains on."""
    selection = json.loads((MODEL_FOLDER / "selection_cpu.json").read_text())
    trained = {name for style in STYLES for name in selection[style]}
    names = sorted({p.name for p in pictures if p.group in HELD_OUT_GROUPS} - trained)
    return [name for name in names if int(hashlib.sha256(name.encode()).hexdigest(), 16) % 12 == 0]


def load(work: Path) -> PictureSet:
    """All pictures that `prepare` wrote."""
    rows = json.loads((work / "pictures.json").read_text())
    return PictureSet(tuple(Picture(**row) for row in rows), np.load(work / "pictures.npy"))


def held_out(everything: PictureSet) -> PictureSet:
    names = set(json.loads(HELD_OUT_FILE.read_text()))
    return everything.where([picture.name in names for picture in everything.pictures])


def not_held_out(everything: PictureSet) -> PictureSet:
    names = set(json.loads(HELD_OUT_FILE.read_text()))
    return everything.where([picture.name not in names for picture in everything.pictures])


def training_set(everything: PictureSet, recipe: Recipe) -> PictureSet:
    """What the denoiser of `recipe` sees: its selection, or all names that are not held out."""
    if recipe.selection is None:
        return not_held_out(everything)
    selection = json.loads((MODEL_FOLDER / recipe.selection).read_text())
    chosen = everything.where([p.name in selection[p.style] for p in everything.pictures])
    missing = sum(len(selection[style]) for style in STYLES) - len(chosen.pictures)
    if missing:
        raise ValueError(f"{missing} names in {recipe.selection} have no picture; check spelling")
    return chosen


def training_rows(data: PictureSet, recipe: Recipe) -> list[int]:
    """The rows of `data` to go through once an epoch; 3D pictures named `often` come repeatedly.

    A short plan can't bring sixty pictures into shape. It can do that for twenty, and give the
    rest their colours.
    """
    rows = list(range(len(data.pictures)))
    if recipe.selection is None:
        return rows
    often = set(json.loads((MODEL_FOLDER / recipe.selection).read_text())["often"])
    repeated = [i for i, p in enumerate(data.pictures) if p.style == "3d" and p.name in often]
    return rows + repeated * (recipe.denoiser.often - 1)
