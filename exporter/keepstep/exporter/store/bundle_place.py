"""A staging folder takes the place of a bundle: at once, so that its name means a whole bundle.

That is true of the name. Who has opened the old bundle and reads on is told by `Bundle`, which is
a snapshot, that it is gone; and where two names cannot be swapped at once there is, for a moment,
no bundle.

The staging folder is made beside its place, in a working folder `.NAME.xxxxxxxx`. Where two names
cannot be swapped at once, an old bundle is moved into the working folder first. If the staging
folder then does not get to its place, the old bundle is put back; by the next export, if the
process was killed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

from keepstep.runtime import Bundle

from ..errors import ExportError
from .durable import exchange, sync, sync_tree
from .locks import remove_dead, working_folder

MANIFEST_FILE = "bundle.json"
_OLD = "old"  # in a working folder: the bundle that was at OUT


def check_bundle_target(out: Path) -> None:
    """Refuse what is there and no old bundle, or no place to write, before any work is done."""
    try:
        taken = out.exists() and (not out.is_dir() or (any(out.iterdir()) and not _is_bundle(out)))
    except OSError as error:
        raise ExportError(f"{out}: cannot be read: {error.strerror}: choose another") from error
    if taken:
        raise ExportError(
            f"{out}: there already, and not a bundle: choose another name, or remove it yourself"
        )
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir():
        raise ExportError(f"{out}: {above} is a file, expected a folder: choose another place")
    try:  # the one way to know: a filesystem may be read-only
        Path(mkdtemp(prefix=f".{out.name}.", dir=above)).rmdir()
    except OSError as error:
        raise ExportError(
            f"{out}: cannot be written: {error.strerror or error}: choose another place"
        ) from error


def place_bundle(out: Path, fill: Callable[[Path], None]) -> Bundle:
    """Let `fill` write a bundle into a staging folder, which then takes the place of `out`.

    Raises `ExportError`; `out` is then as it was.
    """
    check_bundle_target(out)
    prefix = f".{out.name}."

    def put_back(folder: Path) -> None:
        """Undo the first of two renames if the second was not to be."""
        if (folder / _OLD).exists() and not out.exists():
            (folder / _OLD).rename(out)

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_dead(out.parent, prefix, salvage=put_back)
        with working_folder(out.parent, prefix, salvage=put_back) as folder:
            staging = folder / "bundle"
            staging.mkdir()
            fill(staging)
            Bundle.open(staging, verify_hashes=False)  # what we write, we can read
            sync_tree(staging)
            _replace(staging, out, folder / _OLD)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        way_out = "free some space" if full else "choose another place"
        raise ExportError(
            f"{out}: cannot be written: {error.strerror or error}; nothing was left behind: "
            f"{way_out} and export again"
        ) from error
    return Bundle.open(out, verify_hashes=False)


def _replace(staging: Path, out: Path, aside: Path) -> None:
    """Put `staging` in the place of `out`; an old bundle is then where that was, or `aside`."""
    if not (out.exists() and exchange(staging, out)):
        if out.exists():
            out.rename(aside)
        staging.rename(out)
    sync(out.parent)


def _is_bundle(folder: Path) -> bool:
    return (folder / MANIFEST_FILE).is_file()
