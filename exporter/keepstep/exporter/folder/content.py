"""A model folder is known by its content: the SHA-256 of every file that an export reads.

Paths, sizes and times tell nothing: archives, image layers and `rsync -t` give other files the
same ones, and a symbolic link leads elsewhere without any of them changing. Hashing gigabytes
takes a while, so the cache remembers the hash of a weights file by what the system changes
whenever its content changes: device, inode, size, and both its times. Light: no torch.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from keepstep.runtime.files import check_regular, open_regular

from ..errors import ModelError
from ..store.cache import Cache, Entry, Files, cache_key
from ..work import Progress
from .model_folder import ModelFolder, read_folder

HASHING = "hash the checkpoint"
_CHUNK = 4 * 2**20
_TICK_NS = 2 * 10**9  # more than any filesystem's clock is coarse
Stamp = tuple[int, int, int, int, int]  # device, inode, bytes, and times of change


@dataclass(frozen=True)
class Content:
    """A model folder and its content.

    sha256   over all that is read of the folder
    stamps   of the weights files, as they were hashed
    """

    folder: ModelFolder
    sha256: str
    stamps: Mapping[Path, Stamp]

    def made(
        self,
        cache: Cache,
        kind: str,
        key: str,
        about: Mapping[str, str],
        make: Callable[[Path], Files],
    ) -> Entry:
        """As `Cache.made`, for what is made of the checkpoint's numbers.

        Nothing is kept under the hash of files that have been written meanwhile: `ModelError`.
        """

        def checked(folder: Path) -> Files:
            files = make(folder)
            self._check_unwritten()
            return files

        return cache.made(kind, key, about, checked)

    def _check_unwritten(self) -> None:
        for path, stamp in self.stamps.items():
            if _stamp(path, self.folder.name) != stamp:
                raise _changed(self.folder.name, path)


def content_of(folder: ModelFolder, cache: Cache, report: Progress) -> Content:
    """The content of `folder`; what the cache remembers is not hashed again.

    Raises `ModelError`, for a file too that is written meanwhile.
    """
    paths = [path for weights in folder.weights.values() for path in weights.paths]
    stamps = {path: _stamp(path, folder.name) for path in paths}
    total = sum(stamp[2] for stamp in stamps.values())
    done = 0

    def hashed(path: Path) -> str:
        nonlocal done
        before = done

        def within(read: int) -> None:
            report(HASHING, before + read, total)

        digest = _remembered(path, stamps[path], folder.name, cache, within)
        done += stamps[path][2]
        return digest

    said = {
        "texts": {p: hashlib.sha256(text).hexdigest() for p, text in folder.texts.items()},
        "weights": {
            component: {path.name: hashed(path) for path in weights.paths}
            for component, weights in folder.weights.items()
        },
    }
    return Content(folder, cache_key(said), stamps)


def check_same(content: Content, cache: Cache) -> None:
    """Refuse a folder of which something else is read by now; raises `ModelError`."""
    folder = content.folder
    now = read_folder(folder.path, folder.name, folder.choice)
    if now.texts != folder.texts or now.weights != folder.weights:
        raise _changed(folder.name)
    # A time of change can move without the content; then it is hashed again.
    if content_of(now, cache, lambda what, done, total: None).sha256 != content.sha256:
        raise _changed(folder.name)


def _remembered(
    path: Path, stamp: Stamp, name: str, cache: Cache, within: Callable[[int], None]
) -> str:
    """The SHA-256 of a file with this stamp, from the cache where it is known."""
    key = cache_key({"stamp": list(stamp)})
    if found := cache.get("hash", key):
        return found.files["sha256"].path.read_text()
    begin = time.time_ns()
    digest = _sha256(path, within)
    if _stamp(path, name) != stamp:
        raise _changed(name, path)
    if _tells_changes(stamp, begin):
        about = {"file": f"{name}/{path.parent.name}/{path.name}"}
        cache.put("hash", key, {"sha256": digest.encode()}, about)
    return digest


def _tells_changes(stamp: Stamp, now_ns: int) -> bool:
    """Whether a file with this stamp would get another one if it were written from now on.

    Not within the same tick of the clock, as git has it for its index; nor where the time of change
    is in whole seconds: read-only images and archives have none of their own and repeat another.
    """
    changed = stamp[4]
    return changed + _TICK_NS < now_ns and changed % 10**9 != 0


def _sha256(path: Path, within: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    done = 0
    with open_regular(path) as file:
        within(0)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            within(done)
    return digest.hexdigest()


def _stamp(path: Path, name: str) -> Stamp:
    try:
        found = check_regular(path)
    except OSError as error:
        raise _changed(name, path) from error
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _changed(name: str, path: Path | None = None) -> ModelError:
    where = f"{name}/{path.parent.name}/{path.name}" if path else name
    return ModelError(
        f"{where}: changed while the model was exported; nothing was written: export again when "
        "nobody writes to it"
    )
