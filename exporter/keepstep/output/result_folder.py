"""A folder that a command writes: refused before the work where that is known, then there whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

from keepstep.exporter.store.durable import sync, sync_tree
from keepstep.exporter.store.locks import remove_dead, working_folder
from keepstep.runtime.errors import InputError, KeepstepError
from keepstep.runtime.quoting import sanitize


def check_folder(path: Path) -> None:
    """Refuse a folder that is not new or empty, or cannot be written; raises `InputError`."""
    try:
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise InputError(f"{path}: is there and no folder: give the name of a new folder")
        if path.exists() and any(path.iterdir()):
            raise InputError(
                f"{path}: is a folder with something in it: choose another name, or empty it "
                "yourself"
            )
        if not path.absolute().parent.is_dir():
            raise InputError(
                f"{path}: there is no folder {path.parent}: make it, or choose another"
            )
        # The one way to know: a filesystem may be read-only.
        Path(mkdtemp(prefix=f".{path.name}.", dir=path.absolute().parent)).rmdir()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror or error}: choose another place"
        ) from error


def write_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write files into a folder beside `path`, which then takes its place at once.

    Raises `KeepstepError` where that fails; `path` is then as it was, missing or empty.
    """
    check_folder(path)
    target = path.absolute()
    prefix = f".{target.name}."
    try:
        remove_dead(target.parent, prefix)
        with working_folder(target.parent, prefix) as work:
            staging = work / "folder"
            staging.mkdir()
            fill(staging)
            sync_tree(staging)
            # An empty folder makes way, one that was filled meanwhile does not.
            staging.rename(target)
            sync(target.parent)
    except OSError as error:
        raise KeepstepError(
            f"{path}: cannot be written: {error.strerror or sanitize(error)}; nothing was left "
            "behind: free some space or choose another place, and run again"
        ) from error
