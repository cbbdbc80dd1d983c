"""The small JSON files of a model folder, read without trusting them. Light: no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from keepstep.runtime.files import read_regular
from keepstep.runtime.quoting import quote

from ..errors import ModelError

MOST_DEPTH = 16
AGAIN = "Fetch or save the model again"


def read_object(path: Path, where: str, most: int) -> dict[str, Any]:
    """The JSON object in the file `path` of at most `most` bytes, called `where` in messages.

    Raises `ModelError`.
    """
    return object_of(read_small(path, where, most), where)


def read_small(path: Path, where: str, most: int) -> bytes:
    """All of a small file; raises `ModelError` for what is none, or a larger one."""
    try:
        return read_regular(path, most)
    except OSError as error:
        raise ModelError(f"{where}: cannot be read: {error.strerror or error}. {AGAIN}") from error


def object_of(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object that `data` spells; raises `ModelError`."""
    try:
        value = json.loads(data)
        too_deep = not _within(value, MOST_DEPTH)
    except RecursionError:
        too_deep = True
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        why = str(error).splitlines()[0].rstrip(".")
        raise ModelError(f"{where}: cannot be read: {why}. {AGAIN}") from error
    if too_deep:
        raise ModelError(f"{where}: nested deeper than {MOST_DEPTH}: no model's JSON is. {AGAIN}")
    if not isinstance(value, dict):
        found = type(value).__name__
        raise ModelError(f"{where}: expected an object, found {found}. {AGAIN}")
    return value


def check_bounds(config: dict[str, Any], where: str, most: dict[str, int]) -> None:
    """Refuse numbers, alone or in a list, beyond `most` of their key; raises `ModelError`."""
    for key, limit in most.items():
        value = config.get(key)
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and not 0 <= number <= limit:
                raise ModelError(
                    f"{where}: {key} is {quote(number)}, expected at most {limit}. {AGAIN}"
                )


def _within(value: Any, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    members = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_within(member, depth - 1) for member in members)
