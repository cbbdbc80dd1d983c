"""Locks that end with their process, and folders of work in progress that such a lock guards.

A process may be killed at any moment and leave its folder behind. Its lock is gone then, so the
next one knows that the folder is dead and removes it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

LOCK_FILE = "keepstep.lock"  # in every folder of work in progress
_RANDOM = "[a-z0-9_]{8}"  # what mkdtemp ends names with

Salvage = Callable[[Path], None]  # given a working folder


def share(path: Path) -> int:
    """Wait for a lock that others may share, on a file made if need be.

    Gives the descriptor; the lock is held until that is closed.
    """
    lock = _opened(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
    except BaseException:
        os.close(lock)
        raise
    return lock


@contextmanager
def alone(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock that nobody shares; without `wait`, BlockingIOError where it is taken."""
    lock = _opened(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def holders(path: Path) -> list[int]:
    """The processes that hold a lock on a file, as far as the system tells (Linux does)."""
    try:
        text = Path("/proc/locks").read_text()  # `1: FLOCK ADVISORY READ PID DEVICE:INODE 0 EOF`
    except OSError:
        return []
    held = re.findall(rf"FLOCK +ADVISORY +\w+ +(\d+) \w+:\w+:{path.stat().st_ino} ", text)
    return sorted({int(pid) for pid in held} - {0})  # 0: in another container


@contextmanager
def working_folder(
    parent: Path, prefix: str = "", salvage: Salvage | None = None
) -> Iterator[Path]:
    """Give a new folder in `parent` for work in progress; it is removed in the end.

    It holds a file `LOCK_FILE`, locked meanwhile, and is for this user alone. `salvage` is called
    before it is removed, to take out what is needed.
    """
    folder, lock = _locked_folder(parent, prefix)
    try:
        yield folder
    finally:
        try:
            _remove(folder, salvage)
        finally:
            os.close(lock)


def remove_dead(parent: Path, prefix: str = "", salvage: Salvage | None = None) -> None:
    """Remove the working folders in `parent` whose processes have died, as they would have."""
    name = re.compile(re.escape(prefix) + _RANDOM)
    for folder in [path for path in parent.iterdir() if name.fullmatch(path.name)]:
        try:
            lock = os.open(folder / LOCK_FILE, os.O_RDWR)
        except OSError:
            with suppress(OSError):
                folder.rmdir()  # empty: died before it had its lock; anything else is not ours
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass  # alive, or no telling
        else:
            _remove(folder, salvage)
        finally:
            os.close(lock)


def new_file_mode(folder: Path) -> int:
    """What the umask lets a new file's mode be, read off the lock of a working folder."""
    return (folder / LOCK_FILE).stat().st_mode & 0o777


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _locked_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(mkdtemp(prefix=prefix, dir=parent))
        try:
            lock = _opened(folder / LOCK_FILE)
        except FileNotFoundError:
            continue  # without its lock it looked dead: another process has removed it
        except OSError:
            folder.rmdir()
            raise
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)  # another process is just removing it
            continue
        except OSError:
            return folder, lock  # a filesystem without locks: there, nothing is taken for dead
        if os.fstat(lock).st_nlink:
            return folder, lock
        os.close(lock)  # another process has removed it


def _remove(folder: Path, salvage: Salvage | None) -> None:
    """Remove a working folder, its lock last: killed in between, it can be found dead again."""
    if salvage is not None:
        salvage(folder)
    with suppress(OSError):  # another user's, or gone already
        for path in folder.iterdir():
            if path.name != LOCK_FILE:
                remove(path)
        (folder / LOCK_FILE).unlink(missing_ok=True)
        folder.rmdir()


def remove(path: Path) -> None:
    """Remove a file, or a folder with what is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
