"""A file that a command writes: refused before the work where that is known, then there at once."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from keepstep.runtime.errors import InputError, KeepstepError
from keepstep.runtime.quoting import sanitize


def check_file_target(path: Path, ending: str) -> None:
    """Refuse a file that cannot be written, before any work is done; raises `InputError`."""
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder: give the name of a file to write")
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: is there and no file: give the name of a file to write")
        if not path.parent.is_dir():
            raise InputError(
                f"{path}: there is no folder {path.parent}: make it, or choose another"
            )
        if path.suffix.lower() != ending:
            raise InputError(
                f"{path}: expected a name that ends in {ending}: that is what is written"
            )
        with _part_beside(path):  # the one way to know: a filesystem may be read-only
            pass
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror or error}: choose another place"
        ) from error


def write_beside(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and rename it, so that it is never seen half written.

    Raises `KeepstepError` where that fails; the file is then as it was.
    """
    try:
        with _part_beside(path) as part:
            write(part)
            part.replace(path)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or sanitize(error)  # without the part's name
        raise KeepstepError(
            f"{path}: cannot be written: {why}; nothing was left behind: free some space or "
            "choose another place, and run again"
        ) from error


@contextmanager
def _part_beside(path: Path) -> Iterator[Path]:
    """Give an empty file beside `path`, with a name that nobody else has; it is removed after."""
    part = path.with_name(f".keepstep-{secrets.token_hex(8)}.part")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        yield part
    finally:
        with suppress(OSError):  # moved to its place, or never there
            part.unlink()
