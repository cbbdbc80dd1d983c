"""A folder as it was when it was opened: what is read from it later is that, or nothing.

A bundle is read bit by bit, and an export may exchange the whole folder in between. So the folder
itself is held and not its name, where the system can do that, and every file must be the very one
that was looked at first.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from weakref import finalize

from keepstep.runtime.errors import BundleError
from keepstep.runtime.files import NotRegularError, open_regular
from keepstep.runtime.quoting import quote

_HOLDS_FOLDERS = os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd
# To hold a folder takes no right to list it, where the system knows the difference.
_HOLD = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)


@dataclass(frozen=True)
class _Identity:
    """What tells a file from another one in its place.

    The time of its last change of status is no part of it: that changes with every new link, and
    the exporter's cache shares files by links.
    """

    device: int
    inode: int
    bytes: int
    modified: int  # ns

    @classmethod
    def of(cls, status: os.stat_result) -> _Identity:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Snapshot:
    """A folder and the files that were found in it. Raises `OSError` where there is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._seen: dict[str, _Identity] = {}
        self._descriptor: int | None = None
        if _HOLDS_FOLDERS:
            self._descriptor = os.open(self.folder, _HOLD)
            finalize(self, os.close, self._descriptor)
        self._own = self._folder_now()

    @property
    def is_in_place(self) -> bool:
        """Whether the name still stands for this folder."""
        try:
            return self._folder_now(by_name=True) == self._own
        except OSError:
            return False

    def note(self, path: str) -> BinaryIO | None:
        """Open a file that is then known, at its first byte; None where there is no plain file.

        Raises `OSError` where one cannot be opened.
        """
        file = self._opened(path)
        if file is not None:
            self._seen[path] = _Identity.of(os.fstat(file.fileno()))
        return file

    def open(self, path: str) -> BinaryIO:
        """Open a file that is known; raises `BundleError` for another one in its place."""
        file = self._opened(path)
        if file is None or _Identity.of(os.fstat(file.fileno())) != self._seen[path]:
            if file is not None:
                file.close()
            raise self.replaced(path)
        return file

    def check_name(self, path: str, name: Path) -> None:
        """Raise as `open` does where `name` stands for another file by now."""
        try:
            same = _Identity.of(name.stat()) == self._seen[path]
        except OSError:
            same = False
        if not same:
            raise self.replaced(path)

    def replaced(self, path: str) -> BundleError:
        """What is said of a file that is no longer the one that was opened."""
        return BundleError(
            0,
            f"bundle {self.folder}: {quote(path)} was replaced since it was opened; open the "
            "bundle again",
        )

    def _opened(self, path: str) -> BinaryIO | None:
        place = Path(path) if self._descriptor is not None else self.folder / path
        try:
            return open_regular(place, self._descriptor)
        except (NotRegularError, FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise

    def _folder_now(self, *, by_name: bool = False) -> tuple[int, int]:
        held = None if by_name else self._descriptor
        status = self.folder.stat() if held is None else os.fstat(held)
        return status.st_dev, status.st_ino
