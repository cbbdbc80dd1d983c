"""Finished work, kept under a hash of what it was made from, so that nothing is made twice.

objects/ab/SHA256       content, read-only, named by its own hash
entries/KIND/KEY.json   what an entry consists of: names, hashes and sizes of objects
tmp/                    work in progress: one locked folder each
in-use.lock             held shared while blobs are in use, exclusively while pruning
change.lock             held while an object or an entry takes its place or is removed

The two lock files stay, also where everything is pruned: one that was removed could be held by a
process that opened it before, while the next one locks a new file of the same name. They are empty.

Files are finished in tmp/, synced and then renamed, an entry after its objects: a kill leaves them
whole or not there at all. `get` trusts nothing that it has not hashed.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from ..errors import ExportError
from .cache_entry import Blob, Entry, Pruned, Use, cache_key, read_entry, sha256_of, text_of
from .durable import sync
from .locks import alone, holders, new_file_mode, remove, remove_dead, share, working_folder

__all__ = ["Blob", "Cache", "Entry", "Files", "Pruned", "Use", "cache_key"]

VARIABLE = "KEEPSTEP_CACHE"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_KIND = re.compile(r"[a-z0-9-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Files = Mapping[str, bytes | Path | Blob]
"""Name → content: bytes, a finished file of a scratch folder, or what the cache has already."""


class Cache:
    """A folder of finished work.

    From the first `get`, `put` or `scratch` until `close` (the end of a `with`) the cache is in
    use: no other process can prune it, so the files of the blobs that it gave stay. Errors of the
    system become `ExportError`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._release: weakref.finalize[[int], Cache] | None = None

    @classmethod
    def default(cls) -> Self:
        """The user's: $KEEPSTEP_CACHE, else $XDG_CACHE_HOME/keepstep, else ~/.cache/keepstep."""
        if chosen := os.environ.get(VARIABLE):
            return cls(Path(chosen))
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if home.is_absolute():  # the XDG specification says to ignore relative ones
            return cls(home / "keepstep")
        try:
            return cls(Path.home() / ".cache/keepstep")
        except RuntimeError as error:
            raise ExportError(f"no home folder for a cache: set {VARIABLE} to a folder") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others prune; files of blobs may now go away."""
        if self._release is not None:
            self._release()
            self._release = None

    def get(self, kind: str, key: str) -> Entry | None:
        """Give the entry, every byte of it checked; None where it is not there.

        What is damaged is removed and None, too: it only has to be built again.
        """
        path = self._entry_path(kind, key)
        with self._reported():
            self._use()
            if not os.path.lexists(path):
                return None
            entry = read_entry(path, kind, key, self._object_path)
            if entry is not None and all(blob.is_whole() for blob in entry.files.values()):
                with suppress(FileNotFoundError):  # another process may have dropped it
                    os.utime(path)  # the last use, for pruning
                return entry
            self._drop_damaged(kind, key)
        return None

    def put(
        self,
        kind: str,
        key: str,
        files: Files,
        about: Mapping[str, str],
    ) -> Entry:
        """Keep `files` (names → content) as one entry, in the place of an older one.

        A path is a finished file in a folder of this cache's `scratch()`, and is moved; a blob is
        of this cache. `about` is for people. Either all of the entry is there in the end, or
        nothing but objects that the next pruning removes.
        """
        path = self._entry_path(kind, key)
        with self._reported(), self.scratch() as work:
            blobs = {name: self._store(content, work) for name, content in files.items()}
            entry = Entry(kind, key, blobs, dict(about))
            part = work / "entry"
            part.write_bytes(text_of(entry))
            sync(part)
            with self._changing():
                _move(part, path)
        return entry

    def made(
        self, kind: str, key: str, about: Mapping[str, str], make: Callable[[Path], Files]
    ) -> Entry:
        """Give the entry; where it is not there, `make` makes its files, in a scratch folder."""
        if entry := self.get(kind, key):
            return entry
        with self.scratch() as folder:
            return self.put(kind, key, make(folder), about)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a folder for files that will be `put`; what is left in it is removed in the end.

        A disk that is full while it is written becomes `ExportError`, too.
        """
        with ExitStack() as stack:
            with self._reported():
                self._use()
                remove_dead(self._tmp)
                folder = stack.enter_context(working_folder(self._tmp))
            with self._reported(only=_NO_SPACE):
                yield folder

    def entries(self) -> list[Use]:
        """All entries that can be read, the one used last first."""
        found = []
        with self._reported():
            for path in self._entry_paths() if self._is_there() else ():
                entry = read_entry(path, path.parent.name, path.stem, self._object_path)
                if entry is not None and (used := _stat(path)):
                    found.append(Use(entry, datetime.fromtimestamp(used.st_mtime, UTC)))
        return sorted(found, key=lambda use: use.last, reverse=True)

    def total_bytes(self) -> int:
        """The size of all objects, which entries may share."""
        with self._reported():
            return sum(found.st_size for found in map(_stat, self._object_paths()) if found)

    def prune(self, older_than: timedelta | None = None) -> Pruned:
        """Drop entries not used for `older_than`, or all of them, and objects without an entry.

        Raises `ExportError` while anyone uses the cache. So an object without an entry is nobody's
        work in progress, however new: a killed process left it.
        """
        with self._reported():
            if not self._is_there():
                return Pruned(0, 0, 0)
            try:
                with alone(self._in_use, wait=False):
                    return self._prune(older_than)
            except BlockingIOError as error:
                pids = ", ".join(map(str, holders(self._in_use)))
                raise ExportError(
                    f"cache {self.folder}: in use by {f'process {pids}' if pids else 'another'}: "
                    "wait until that ends, and prune again"
                ) from error

    def _prune(self, older_than: timedelta | None) -> Pruned:
        if self._tmp.is_dir():
            remove_dead(self._tmp)
        kept = []
        if older_than is not None:
            begin = datetime.now(UTC) - older_than
            kept = [use.entry for use in self.entries() if use.last > begin]
        dropped = set(self._entry_paths())
        dropped -= {self._entry_path(entry.kind, entry.key) for entry in kept}
        objects = set(self._object_paths())
        objects -= {blob.path for entry in kept for blob in entry.files.values()}
        stats = [path.lstat() for path in objects]
        for path in [*dropped, *objects]:
            remove(path)
        return Pruned(
            entries=len(dropped),
            freed=sum(found.st_size for found in stats if found.st_nlink == 1),
            linked=sum(found.st_size for found in stats if found.st_nlink > 1),
        )

    def _store(self, content: bytes | Path | Blob, work: Path) -> Blob:
        """Give content its place among the objects, unless it is there already."""
        if isinstance(content, Blob):
            if content.path != self._object_path(content.sha256):
                raise ValueError(f"{content.path} is no object of the cache {self.folder}")
            return content
        if isinstance(content, Path):
            if not content.is_relative_to(self._tmp):
                raise ValueError(f"{content} is not in a scratch folder of {self.folder}")
            part = content
        else:
            part = work / "object"
            part.write_bytes(content)
        digest = sha256_of(part)
        blob = Blob(self._object_path(digest), part.stat().st_size, digest)
        part.chmod(new_file_mode(work) & 0o444)
        sync(part)
        with self._changing():
            if blob.is_whole():  # keep it: bundles may share its bytes on the disk
                part.unlink()
            else:
                _move(part, blob.path)
        return blob

    def _drop_damaged(self, kind: str, key: str) -> None:
        path = self._entry_path(kind, key)
        with self._changing():  # looked at once more: another process may just have replaced it
            entry = read_entry(path, kind, key, self._object_path)
            damaged = [] if entry is None else [b for b in entry.files.values() if not b.is_whole()]
            for blob in damaged:
                remove(blob.path)
            if entry is None or damaged:
                remove(path)

    @property
    def _tmp(self) -> Path:
        return self.folder / "tmp"

    @property
    def _in_use(self) -> Path:
        return self.folder / "in-use.lock"

    def _object_path(self, sha256: str) -> Path:
        return self.folder / "objects" / sha256[:2] / sha256

    def _entry_path(self, kind: str, key: str) -> Path:
        if not _KIND.fullmatch(kind) or not _SHA256.fullmatch(key):
            raise ValueError(f"expected a kind as `stage` and a `cache_key`, found {kind}/{key}")
        return self.folder / "entries" / kind / f"{key}.json"

    def _object_paths(self) -> Iterator[Path]:
        found = self.folder.glob("objects/??/*")
        return (path for path in found if _SHA256.fullmatch(path.name))

    def _entry_paths(self) -> Iterator[Path]:
        found = self.folder.glob("entries/*/*.json")
        return (path for path in found if _SHA256.fullmatch(path.stem))

    def _is_there(self) -> bool:
        """Whether the cache was ever used. Raises `OSError` for what cannot be read as a folder."""
        try:
            os.scandir(self.folder).close()
        except FileNotFoundError:
            return False
        return True

    def _use(self) -> None:
        self._tmp.mkdir(parents=True, exist_ok=True)
        if self._release is None:
            lock = share(self._in_use)  # waits while another process prunes
            self._release = weakref.finalize(self, os.close, lock)

    def _changing(self) -> AbstractContextManager[None]:
        return alone(self.folder / "change.lock")

    @contextmanager
    def _reported(self, only: Collection[int] = ()) -> Iterator[None]:
        """Errors of the system, or `only` some, become one message with the way out."""
        try:
            yield
        except OSError as error:
            if only and error.errno not in only:
                raise
            full = error.errno in _NO_SPACE
            space = "free some space (`keepstep cache prune` may help), or " if full else ""
            raise ExportError(
                f"cache {self.folder}: cannot be used: {error.strerror or error}: "
                f"{space}set {VARIABLE} to another folder"
            ) from error


def _stat(path: Path) -> os.stat_result | None:
    """None for what another process has just removed."""
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _move(part: Path, place: Path) -> None:
    """Rename a finished file to its place, whatever lies there, for good."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    part.replace(place)
    sync(place.parent)
