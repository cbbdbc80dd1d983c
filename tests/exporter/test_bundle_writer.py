"""A bundle takes its place at once: linked where that can be, and whole whenever we are killed."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from exporter.toy_content import content, kept, key, whole

from keepstep.exporter.errors import ExportError
from keepstep.exporter.store import bundle_place
from keepstep.exporter.store.bundle_place import place_bundle
from keepstep.exporter.store.bundle_writer import restore_bundle, write_bundle
from keepstep.exporter.store.cache import Blob, Cache, cache_key
from keepstep.exporter.store.durable import exchange
from keepstep.exporter.store.locks import LOCK_FILE

WEIGHTS = "weights.safetensors"
MEMORY = Path("/dev/shm")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as made:
        yield made


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "work/out"


@pytest.fixture
def other_filesystem(tmp_path: Path) -> Iterator[Path]:
    """A folder on another filesystem than `tmp_path`."""
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second filesystem")
    folder = MEMORY / f"keepstep-tests-{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["swapped", "renamed"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the system can swap two names at once."""
    if request.param == "renamed":
        monkeypatch.setattr(bundle_place, "exchange", lambda *_: False)
    return str(request.param)


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}


def test_large_files_are_linked_and_nothing_is_hashed_twice(cache: Cache, out: Path) -> None:
    entry = kept(cache, 1)
    bundle = write_bundle(content(entry), out)
    assert whole(out) == 1
    for path, blob in entry.files.items():
        assert (out / path).samefile(blob.path)
        listed = bundle.manifest.files[path]
        assert (listed.bytes, listed.sha256) == (blob.bytes, blob.sha256)
    assert list(bundle.manifest.files) == sorted(bundle.manifest.files)


def test_the_recorded_hash_is_used_as_it_is(cache: Cache, out: Path) -> None:
    entry = kept(cache, 1)
    blob = entry.files[WEIGHTS]
    said = Blob(blob.path, blob.bytes, "0" * 64)
    made = content(entry)
    bundle = write_bundle(type(made)(**{**vars(made), "files": {**made.files, WEIGHTS: said}}), out)
    assert bundle.manifest.files[WEIGHTS].sha256 == "0" * 64


def test_files_are_copied_from_another_filesystem(other_filesystem: Path, out: Path) -> None:
    with Cache(other_filesystem / "cache") as cache:
        entry = kept(cache, 1)
        write_bundle(content(entry), out)
        assert whole(out) == 1
        assert not (out / WEIGHTS).samefile(entry.files[WEIGHTS].path)
        assert modes(out) == {(out / "bundle.json").stat().st_mode & 0o777}


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_are_for_whom_the_umask_allows(umask: int, cache: Cache, out: Path) -> None:
    """The objects were made under another umask; their modes are not changed."""
    entry = kept(cache, 1)
    before = modes(cache.folder)
    old = os.umask(umask)
    try:
        write_bundle(content(entry), out)
    finally:
        os.umask(old)
    readable = 0o444 & ~umask
    assert {mode & 0o444 for mode in modes(out)} == {readable}
    assert modes(cache.folder) == before
    assert stat.S_IMODE(out.stat().st_mode) == 0o777 & ~umask


def test_a_bundle_is_restored_from_blobs_alone(cache: Cache, out: Path, tmp_path: Path) -> None:
    entry = kept(cache, 1)
    write_bundle(content(entry), out)
    written = {
        path: data.read_bytes()
        for data in out.rglob("*")
        if data.is_file() and (path := data.relative_to(out).as_posix()) not in entry.files
    }
    again = cache.put("bundle", cache_key({}), {**written, **entry.files}, {})
    restore_bundle(again.files, tmp_path / "again")
    assert whole(tmp_path / "again") == 1
    for path in again.files:
        assert (tmp_path / "again" / path).read_bytes() == (out / path).read_bytes()


def test_an_older_bundle_is_replaced(how: str, cache: Cache, out: Path) -> None:
    for version in (1, 2):
        write_bundle(content(kept(cache, version)), out)
        assert whole(out) == version
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert all(blob.is_whole() for blob in kept(cache, 1).files.values())


def test_a_bundle_can_be_deleted_and_its_blobs_stay(cache: Cache, out: Path) -> None:
    entry = kept(cache, 1)
    write_bundle(content(entry), out)
    shutil.rmtree(out)
    assert cache.get("toy", key(1)) == entry


def test_a_blob_that_is_gone_is_told_and_the_old_bundle_stays(cache: Cache, out: Path) -> None:
    write_bundle(content(kept(cache, 1)), out)
    entry = kept(cache, 2)
    entry.files[WEIGHTS].path.unlink()
    with pytest.raises(ExportError, match="gone from the cache while it was in use: export again"):
        write_bundle(content(entry), out)
    assert whole(out) == 1
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_target_that_is_no_bundle_is_refused_and_stays(cache: Cache, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "mine").write_text("mine")
    with pytest.raises(ExportError, match="there already, and not a bundle"):
        write_bundle(content(kept(cache, 1)), out)
    assert (out / "mine").read_text() == "mine"


def dead(folder: Path) -> Path:
    """A draft whose process has died."""
    folder.mkdir(parents=True)
    (folder / LOCK_FILE).touch()
    return folder


def test_an_old_bundle_that_a_killed_export_had_moved_aside_comes_back(
    cache: Cache, out: Path
) -> None:
    write_bundle(content(kept(cache, 1)), out)
    out.rename(dead(out.parent / ".out.abcdefgh") / "old")

    def fails(_: Path) -> None:
        raise ExportError("the next export fails, too")

    with pytest.raises(ExportError, match="fails, too"):
        place_bundle(out, fails)
    assert whole(out) == 1
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_only_dead_drafts_of_the_same_bundle_are_removed(cache: Cache, out: Path) -> None:
    dead(out.parent / ".out.abcdefgh")
    others = [
        dead(out.parent / ".out.more.abcdefgh"),
        dead(out.parent / "out.abcdefgh"),
        out.parent / ".out.settings/own",  # as long as a draft's name, and somebody's own
    ]
    others[-1].mkdir(parents=True)
    (others[-1].parent / "x").touch()
    write_bundle(content(kept(cache, 1)), out)
    assert not (out.parent / ".out.abcdefgh").exists()
    assert all(folder.exists() for folder in others)


def test_an_export_leaves_the_draft_of_a_living_one_alone(cache: Cache, out: Path) -> None:
    entry = kept(cache, 1)

    def meanwhile(draft: Path) -> None:
        write_bundle(content(entry), out)
        assert draft.is_dir()
        for path, blob in second.items():
            (draft / path).parent.mkdir(parents=True, exist_ok=True)
            (draft / path).hardlink_to(blob.path)

    write_bundle(content(kept(cache, 2)), out)
    paths = [path for path in out.rglob("*") if path.is_file()]
    files = {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}
    second = cache.put("bundle", cache_key({}), files, {}).files
    place_bundle(out, meanwhile)
    assert whole(out) == 2
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_old_bundle_that_cannot_be_put_back_is_never_removed(
    cache: Cache, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between the renames, and again while the old bundle is put back."""
    write_bundle(content(kept(cache, 1)), out)
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> None:
        if path != out:
            raise KeyboardInterrupt
        rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(bundle_place, "exchange", lambda *_: False)
        patch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_bundle(content(kept(cache, 2)), out)
    with pytest.raises(ExportError, match="gone from the cache"):
        restore_bundle({"bundle.json": Blob(cache.folder / "none", 0, "0" * 64)}, out)
    assert whole(out) == 1
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_disk_that_is_full_while_files_are_copied_is_told_and_leaves_nothing(
    cache: Cache, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(code: int) -> Callable[..., None]:
        def fails(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        return fails

    write_bundle(content(kept(cache, 1)), out)
    entry = kept(cache, 2)
    monkeypatch.setattr(Path, "hardlink_to", cannot(errno.EXDEV))
    monkeypatch.setattr(shutil, "copyfile", cannot(errno.ENOSPC))
    with pytest.raises(ExportError, match=r"No space left on device; .*: free some space"):
        write_bundle(content(entry), out)
    assert whole(out) == 1
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_two_names_are_swapped_at_once_or_not_at_all(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.write_text("a file")
    if exchange(one, other):
        assert other.is_dir()
        assert one.read_text() == "a file"
    assert not exchange(one, tmp_path / "nothing")
    assert {path.name for path in tmp_path.iterdir()} == {"one", "other"}
