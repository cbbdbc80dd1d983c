"""Regular files, opened and read so that nothing in their place can hang or fill the reader.

A FIFO is waited for until somebody writes to it, and a device may have no end. Neither is a file
of a bundle, a model or a LoRA, so what lies at a path is looked at before it is read. Symbolic
links are followed: where they may lead is the caller's matter.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
# A FIFO that takes the file's place in between is not waited for. Not every system has them.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class NotRegularError(OSError):
    """What lies at a path is no regular file, or a larger one than expected; the text says what."""


def check_regular(path: Path) -> os.stat_result:
    """What the system tells of a regular file, links followed.

    Raises `NotRegularError` for anything else and `OSError` where there is nothing.
    """
    return _status(path, None)


def open_regular(path: Path, folder: int | None = None) -> BinaryIO:
    """A regular file, open for reading; raises as `check_regular` does.

    `path` is seen from `folder`, the descriptor of one that is held open, where that is given.
    """
    _status(path, folder)  # before it is opened: some devices act on that
    file = os.fdopen(os.open(path, _FLAGS, dir_fd=folder), "rb")
    try:
        _check_kind(path, os.fstat(file.fileno()))
    except NotRegularError:
        file.close()
        raise
    return file


def read_regular(path: Path, most: int) -> bytes:
    """All bytes of a regular file, of which there are `most` at most.

    Raises `NotRegularError` for anything else, a larger file too, and `OSError` where it cannot be
    read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise NotRegularError(f"{path}: {size} bytes, expected {most} at most")
        data = file.read(most + 1)  # it may have grown, and some files do not tell their size
    if len(data) > most:
        raise NotRegularError(f"{path}: more than the {most} bytes expected at most")
    return data


def _status(path: Path, folder: int | None) -> os.stat_result:
    try:
        found = os.stat(path, dir_fd=folder)
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise NotRegularError(f"{str(path)!a}: {error}: no file can have this name") from error
    _check_kind(path, found)
    return found


def _check_kind(path: Path, found: os.stat_result) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        what = _KINDS.get(kind, "something else")
        raise NotRegularError(f"{path}: is {what}, expected a regular file")
