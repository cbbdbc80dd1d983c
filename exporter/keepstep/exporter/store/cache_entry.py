"""What a cache holds: blobs, entries that name them, and the keys of entries."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Blob:
    """A finished file; it is never written again, so it may be linked instead of copied."""

    path: Path
    bytes: int
    sha256: str

    def is_whole(self) -> bool:
        """Whether the file is there with this size and hash; all of it is read."""
        try:
            found = self.path.lstat()
            plain = stat.S_ISREG(found.st_mode) and found.st_size == self.bytes
            return plain and sha256_of(self.path) == self.sha256
        except OSError:
            return False


@dataclass(frozen=True)
class Entry:
    """Finished work: files by name, and what it is, for people."""

    kind: str
    key: str
    files: Mapping[str, Blob]
    about: Mapping[str, str]

    @property
    def bytes(self) -> int:
        """The size of its files."""
        return sum(blob.bytes for blob in self.files.values())


@dataclass(frozen=True)
class Use:
    """An entry and when it was used last (UTC)."""

    entry: Entry
    last: datetime


@dataclass(frozen=True)
class Pruned:
    """What pruning did: dropped entries, bytes freed, and bytes that bundles still link to."""

    entries: int
    freed: int
    linked: int


def cache_key(parts: Mapping[str, object]) -> str:
    """SHA-256 of the canonical JSON of `parts`: 64 hex digits.

    Raises `TypeError` or `ValueError` for what JSON cannot say exactly: keys that are no strings,
    NaN and infinity, and any type of value that is not JSON's own (a tuple counts as a list).
    """
    _check_exact(parts, "parts")
    return hashlib.sha256(_canonical(parts)).hexdigest()


def sha256_of(path: Path) -> str:
    """The hash of a file, which is never in memory as a whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_of(entry: Entry) -> bytes:
    """The JSON of an entry, with a hash over all that it says."""
    files = {name: {"bytes": b.bytes, "sha256": b.sha256} for name, b in entry.files.items()}
    said = {"about": dict(entry.about), "files": files}
    seal = _seal(entry.kind, entry.key, said)
    return json.dumps({**said, "sha256": seal}, indent=1).encode()


def read_entry(path: Path, kind: str, key: str, place: Callable[[str], Path]) -> Entry | None:
    """The entry in the file `path`; None for anything but what `text_of` gave for this key.

    `place` says where the object of a hash lies.
    """
    try:
        if not path.is_file():
            return None
        said = json.loads(path.read_bytes())
        if said.pop("sha256") != _seal(kind, key, said):
            return None
        files = {
            name: Blob(place(file["sha256"]), file["bytes"], file["sha256"])
            for name, file in said["files"].items()
        }
        return Entry(kind, key, files, said["about"])
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def _seal(kind: str, key: str, said: object) -> str:
    return hashlib.sha256(_canonical([kind, key, said])).hexdigest()


def _canonical(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def _check_exact(value: Any, place: str) -> None:
    """Refuse what JSON would drop, round or turn into something else; NaN it refuses itself."""
    if isinstance(value, Mapping):
        for key, member in value.items():
            if type(key) is not str:
                raise TypeError(f"{place}: key {key!r} is a {type(key).__name__}, expected a str")
            _check_exact(member, f"{place}.{key}")
    elif type(value) in (list, tuple):
        for i, element in enumerate(value):
            _check_exact(element, f"{place}[{i}]")
    elif value is not None and type(value) not in (str, int, float, bool):
        raise TypeError(f"{place}: JSON has no {type(value).__name__}: {value!r}")
