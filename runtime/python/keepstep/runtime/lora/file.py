"""LoRA files, read into pairs of factors; everything that can be refused without a bundle is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keepstep.runtime import floats
from keepstep.runtime.errors import InputError
from keepstep.runtime.files import NotRegularError, open_regular
from keepstep.runtime.folder.tensors import TensorFile
from keepstep.runtime.lora.names import Part, other_method, parse_key
from keepstep.runtime.lora.settings import alpha_of, settings_beside
from keepstep.runtime.quoting import quote, quote_names, sanitize

Source = str | os.PathLike[str] | Mapping[str, np.ndarray]
"""A safetensors file, or its tensors by name."""

# Limits on files, so that none takes long or fills the memory. A LoRA of SDXL at rank 128 has some
# 2,500 tensors, whose names and shapes take 400 kB, and 1.5 GB.
MOST_TENSORS = 100_000
MOST_HEADER_BYTES = 32 * 2**20
MOST_BYTES = 8 * 2**30


@dataclass(frozen=True)
class Factors:
    """What a LoRA does to one module: `alpha / rank · up @ down` is added to its weight."""

    module: str  # as the file calls it; in `Target`, its path in the bundle
    down: np.ndarray  # float32 (rank, in), of a convolution (rank, in, kh, kw)
    up: np.ndarray  # float32 (out, rank), of a convolution (out, rank, 1, 1)
    alpha: float

    @property
    def rank(self) -> int:
        """How many columns `up` and rows `down` have."""
        return len(self.down)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight in the checkpoint: (out, in), of a convolution (out, in, kh, kw)."""
        return (len(self.up), *map(int, self.down.shape[1:]))

    def change(self, scale: float) -> np.ndarray:
        """What is added to the weight at `scale`, float32 of `shape`; infinite where too large."""
        out, rank = self.up.shape[:2]
        with np.errstate(over="ignore", invalid="ignore"):
            product: np.ndarray = self.up.reshape(out, rank) @ self.down.reshape(rank, -1)
            product *= np.float32(scale * self.alpha / rank)
        return product.reshape(self.shape)


@dataclass(frozen=True)
class Lora:
    """One LoRA; `place` is what messages call it."""

    place: str
    factors: tuple[Factors, ...]


def read_lora(source: Source) -> Lora:
    """Read a LoRA. Raises `InputError` for what is none, or of a kind that can't be merged."""
    settings: dict[str, Any] = {}
    if isinstance(source, Mapping):
        place = "LoRA given as arrays"
        arrays = {str(key): _given(place, key, source[key]) for key in source}
    else:
        place = str(source)
        arrays, settings = _read(Path(source), place)
    if not arrays:
        raise InputError(f"{place}: holds no tensors, expected those of a LoRA")
    method = next(filter(None, map(other_method, arrays)), None)
    if method is not None:
        keys = [key for key in arrays if other_method(key) == method]
        raise InputError(
            f"{place}: {quote_names(keys)}: {method} is not supported: merge it into the "
            "checkpoint, and export that"
        )
    parts = _parts(place, arrays)
    modules = parts["down"].keys() | parts["up"].keys() | parts["alpha"].keys()
    alone = sorted(m for m in modules if m not in parts["down"] or m not in parts["up"])
    if alone:
        raise InputError(
            f"{place}: no pair of factors (down and up, or lora_A and lora_B) for "
            f"{quote_names(alone)}; the file is cut or was saved wrongly: get it again"
        )
    return Lora(place, tuple(_factors(place, module, parts, settings) for module in parts["down"]))


def _given(place: str, key: object, value: object) -> np.ndarray:
    """An array of a mapping, in float32."""
    try:
        array = np.asarray(value)
    except (
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:  # ragged lists, tensors of other libraries
        raise InputError(f"{place}: {quote(key)}: expected an array: {sanitize(error)}") from error
    if array.dtype.kind not in "fiu":
        raise InputError(
            f"{place}: {quote(key)}: expected an array of numbers, found dtype {array.dtype}"
        )
    with np.errstate(over="ignore"):  # what becomes infinite is refused later
        return array.astype(np.float32)


def _read(path: Path, place: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A file's tensors in float32, and PEFT's settings if there are any."""
    try:
        _check_sizes(path)
        file = TensorFile(path)
    except (ValueError, OSError) as error:
        why = error if isinstance(error, NotRegularError) else sanitize(error)
        raise InputError(
            f"{place}: cannot be read as a safetensors file: {why}; "
            "expected a LoRA as diffusers or kohya's scripts save it"
        ) from error
    if len(file.names) > MOST_TENSORS:
        raise InputError(
            f"{place}: holds {len(file.names)} tensors, expected {MOST_TENSORS} at most: no LoRA"
        )
    arrays = {}
    for name in file.names:
        type_ = file.type(name)
        assert type_ is not None
        if type_.dtype not in floats.DTYPES:
            raise InputError(
                f"{place}: {quote(name)} has dtype {type_.dtype}, "
                f"expected one of {quote_names(floats.DTYPES)}"
            )
        arrays[name] = floats.widened(file.array(name), type_.dtype)
    return arrays, settings_beside(path, file.metadata, file.names)


def _check_sizes(path: Path) -> None:
    """Refuse what is no file, or too large a one, before any of it is understood."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        header = int.from_bytes(file.read(8), "little")
    for what, found, most in (("", size, MOST_BYTES), ("header of ", header, MOST_HEADER_BYTES)):
        if found > most:
            raise ValueError(f"{what}{found} bytes, expected {most} at most")


def _parts(place: str, arrays: Mapping[str, np.ndarray]) -> Mapping[Part, dict[str, np.ndarray]]:
    """The arrays by part and module."""
    parts: Mapping[Part, dict[str, np.ndarray]] = {"down": {}, "up": {}, "alpha": {}}
    strange = [name for name in arrays if parse_key(name) is None]
    if strange:
        raise InputError(
            f"{place}: {quote_names(strange)}: not the names of a LoRA's tensors; expected names "
            "such as '….to_q.lora_A.weight' or '…_to_q.lora_down.weight'"
        )
    for name, array in arrays.items():
        key = parse_key(name)
        assert key is not None
        if key.module in parts[key.part]:
            raise InputError(f"{place}: {quote(name)}: given twice, in two spellings; keep one")
        if not np.isfinite(array).all():
            raise InputError(f"{place}: {quote(name)} holds infinities or NaNs; get it again")
        parts[key.part][key.module] = array
    return parts


def _factors(
    place: str,
    module: str,
    parts: Mapping[Part, Mapping[str, np.ndarray]],
    settings: Mapping[str, Any],
) -> Factors:
    down, up = parts["down"][module], parts["up"][module]
    convolution = down.ndim == 4 and up.ndim == 4 and up.shape[2:] == (1, 1)
    linear = down.ndim == 2 and up.ndim == 2
    if not (linear or convolution) or down.shape[0] != up.shape[1] or not down.size or not up.size:
        raise InputError(
            f"{place}: {quote(module)}: factors of shapes {list(down.shape)} (down) and "
            f"{list(up.shape)} (up), expected [rank, in] and [out, rank], or "
            "[rank, in, height, width] and [out, rank, 1, 1]"
        )
    if module in parts["alpha"]:
        alpha = parts["alpha"][module]
        if alpha.size != 1:
            raise InputError(f"{place}: alpha of {quote(module)}: found {alpha.size} numbers")
        return Factors(module, down, up, float(alpha.reshape(())))
    return Factors(module, down, up, alpha_of(place, module, settings, len(down)))
