"""What has to outlast a kill or a power failure: synced files, and two folders swapped at once."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_AT_FDCWD = -100  # paths count from the working folder; fcntl.h
_RENAME_EXCHANGE = 2  # linux/fs.h


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network filesystems cannot sync folders
            raise
    finally:
        os.close(opened)


def sync_tree(folder: Path) -> None:
    """`sync` everything in a folder, and then the folder."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def exchange(one: Path, other: Path) -> bool:
    """Let two names swap what they stand for, at once; False where the system cannot do that.

    It is Linux's renameat2(2), which Python does not have. Other systems and some filesystems do
    not know it; and whatever else keeps a name from being changed, a rename meets and says, too.
    """
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    names = _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other)
    return bool(rename(*names, _RENAME_EXCHANGE) == 0)
