"""The cache of finished work: it gives back what was put, byte for byte, or nothing at all."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exporter.cache_process import python

from keepstep.exporter.errors import ExportError
from keepstep.exporter.store import cache as cache_module
from keepstep.exporter.store.cache import Blob, Cache, Entry, cache_key

KEY, OTHER = cache_key({"n": 1}), cache_key({"n": 2})
FILES = {"a": b"first" * 1000, "b": b"second"}
ABOUT = {"stage": "full", "backend": "onnxruntime"}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def put(cache: Cache, key: str = KEY) -> Entry:
    return cache.put("stage", key, FILES, ABOUT)


def read(entry: Entry | None) -> dict[str, bytes]:
    assert entry is not None
    return {name: blob.path.read_bytes() for name, blob in entry.files.items()}


def strays(cache: Cache) -> list[str]:
    """What lies in the cache without being an entry, or part of one."""
    named = {blob.path for use in cache.entries() for blob in use.entry.files.values()}
    files = {path for path in cache.folder.rglob("*") if path.is_file()} - named
    entries = set(cache.folder.glob("entries/*/*.json"))
    return sorted(path.name for path in files - entries if path.suffix != ".lock")


def test_what_was_put_is_given_back(cache: Cache) -> None:
    made = put(cache)
    assert read(made) == FILES
    for name, blob in made.files.items():
        digest = hashlib.sha256(FILES[name]).hexdigest()
        assert (blob.bytes, blob.sha256) == (len(FILES[name]), digest)
    with Cache(cache.folder) as other:
        assert other.get("stage", KEY) == made
    assert strays(cache) == []


def test_what_was_never_put_is_none(cache: Cache) -> None:
    put(cache)
    assert cache.get("stage", OTHER) is None
    assert cache.get("bundle", KEY) is None


def test_a_file_of_a_scratch_folder_is_moved_and_kept_read_only(cache: Cache) -> None:
    with cache.scratch() as work:
        (work / "big").write_bytes(b"big")
        inode = (work / "big").stat().st_ino
        made = cache.put("stage", KEY, {"big": work / "big"}, {})
        assert not (work / "big").exists()
    assert made.files["big"].path.stat().st_ino == inode
    assert made.files["big"].path.stat().st_mode & 0o222 == 0
    assert not work.exists()


def test_a_file_from_elsewhere_is_a_fault_of_the_caller(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    with pytest.raises(ValueError, match="scratch"):
        cache.put("stage", KEY, {"x": tmp_path / "mine"}, {})
    with pytest.raises(ValueError, match="no object"):
        cache.put("stage", KEY, {"x": Blob(tmp_path / "mine", 4, "0" * 64)}, {})
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_equal_content_is_kept_once_and_blobs_can_be_part_of_other_entries(cache: Cache) -> None:
    first = put(cache)
    second = cache.put("bundle", KEY, {"x": first.files["a"], "y": FILES["b"]}, {})
    assert second.files["x"] == first.files["a"]
    assert second.files["y"] == first.files["b"]
    assert cache.total_bytes() == sum(map(len, FILES.values()))
    assert read(cache.get("bundle", KEY)) == {"x": FILES["a"], "y": FILES["b"]}


def test_putting_again_replaces_the_entry(cache: Cache) -> None:
    put(cache)
    cache.put("stage", KEY, {"a": b"new"}, {})
    assert read(cache.get("stage", KEY)) == {"a": b"new"}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    rewrite(path, bytes(data))


def rewrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def become_a_folder(path: Path) -> None:
    path.unlink()
    (path / "in").mkdir(parents=True)


def become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a byte is flipped": flip,
    "cut": lambda path: rewrite(path, path.read_bytes()[:-1]),
    "longer": lambda path: rewrite(path, path.read_bytes() + b" "),
    "empty": lambda path: rewrite(path, b""),
    "deleted": Path.unlink,
    "a folder": become_a_folder,
    "a fifo": become_a_fifo,
    "a dangling link": lambda path: (path.unlink(), path.symlink_to("nowhere"))[0],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_object_is_removed_and_built_again(damage: str, cache: Cache) -> None:
    bad = put(cache).files["a"].path
    put(cache, OTHER)  # of the same objects
    DAMAGES[damage](bad)
    assert cache.get("stage", KEY) is None
    assert not os.path.lexists(bad)
    assert [use.entry.key for use in cache.entries()] == [OTHER]
    assert cache.get("stage", OTHER) is None
    assert read(put(cache)) == FILES
    assert read(cache.get("stage", KEY)) == FILES


@pytest.mark.parametrize("damage", DAMAGES)
def test_putting_mends_a_damaged_object(damage: str, cache: Cache) -> None:
    DAMAGES[damage](put(cache).files["a"].path)
    assert read(put(cache)) == FILES


TEXTS = {
    "no JSON": b"{",
    "not UTF-8": b'{"a": "\xff"}',
    "null": b"null",
    "a number": b"7",
    "a list": b"[]",
    "nothing in it": b"{}",
    "nested deep": b"[" * 100_000,
    "a number of many digits": b'{"sha256": ' + b"9" * 10_000 + b"}",
    "strings for objects": b'{"about": "", "files": "", "sha256": ""}',
}
EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a file is renamed": lambda entry: entry["files"].update(c=entry["files"].pop("a")),
    "a file is missing": lambda entry: entry["files"].pop("a"),
    "a size is text": lambda entry: entry["files"]["a"].update(bytes="5000"),
    "a hash leads out": lambda entry: entry["files"]["a"].update(sha256="../../x"),
    "about differs": lambda entry: entry["about"].update(stage="shallow"),
    "a field is added": lambda entry: entry.update(more=1),
}


def refuse_entry(cache: Cache, path: Path) -> None:
    assert cache.get("stage", KEY) is None
    assert not os.path.lexists(path)
    assert read(put(cache)) == FILES


# Blanks at the end of JSON say nothing.
@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "longer"])
def test_a_damaged_entry_is_removed_and_built_again(damage: str, cache: Cache) -> None:
    put(cache)
    (path,) = cache.folder.glob("entries/stage/*")
    DAMAGES[damage](path)
    refuse_entry(cache, path)


@pytest.mark.parametrize("text", TEXTS)
def test_an_entry_that_is_something_else_is_removed(text: str, cache: Cache) -> None:
    put(cache)
    (path,) = cache.folder.glob("entries/stage/*")
    path.write_bytes(TEXTS[text])
    assert cache.entries() == []
    refuse_entry(cache, path)


@pytest.mark.parametrize("edit", EDITS)
def test_an_entry_that_was_edited_is_removed(edit: str, cache: Cache) -> None:
    put(cache)
    (path,) = cache.folder.glob("entries/stage/*")
    entry = json.loads(path.read_bytes())
    EDITS[edit](entry)
    path.write_text(json.dumps(entry))
    refuse_entry(cache, path)


def test_an_entry_under_another_key_is_removed(cache: Cache) -> None:
    put(cache)
    (path,) = cache.folder.glob("entries/stage/*")
    path.rename(path.with_name(f"{OTHER}.json"))
    assert cache.get("stage", OTHER) is None


def test_keys_depend_on_every_value_and_not_on_the_order() -> None:
    parts: list[dict[str, object]] = [
        {"a": 1, "b": 2},
        {"a": 2, "b": 1},
        {"a": 1, "b": "2"},
        {"a": True, "b": 2},
        {"a": 1.0, "b": 2},
        {"a": 1, "b": [2]},
        {"a": 1, "b": {"2": None}},
        {"a": 1},
    ]
    assert len({cache_key(part) for part in parts}) == len(parts)
    assert cache_key({"b": 2, "a": 1}) == cache_key({"a": 1, "b": 2})
    assert cache_key({"shape": (1, 2)}) == cache_key({"shape": [1, 2]})


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, b"x", {1: 2}, {None: 2}, {1}, Path("x"), [object()], 1j]
)
def test_a_key_refuses_what_json_cannot_say(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        cache_key({"x": value})


LOOP = """
for n in range(25):
    for own in ("shared", "{own}"):
        files = {{"a": b"%d" % n * 50_000, "b": own.encode()}}
        entry = cache.put("stage", cache_key({{"n": n, "own": own}}), files, {{}})
        assert all(blob.is_whole() for blob in entry.files.values())
        assert cache.get("stage", entry.key) == entry
"""


def test_processes_may_put_the_same_and_other_keys_at_once(cache: Cache) -> None:
    processes = [python(LOOP.format(own=n), cache) for n in range(3)]
    assert [(p.communicate(timeout=120)[1], p.returncode) for p in processes] == [("", 0)] * 3
    uses = cache.entries()
    assert len(uses) == 25 * 4
    assert all(cache.get("stage", use.entry.key) == use.entry for use in uses)
    assert strays(cache) == []


def test_a_limit_on_file_sizes_is_told_with_the_way_out_and_leaves_nothing(cache: Cache) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    code = 'cache.put("stage", cache_key({}), {"a": b"x" * 500, "b": b"x" * 5000}, {})'
    _, err = python(code, cache, limit=limit).communicate(timeout=60)
    assert "ExportError: cache " in err
    assert "File too large: free some space" in err
    assert "set KEEPSTEP_CACHE to another folder" in err
    assert cache.entries() == []
    assert list((cache.folder / "tmp").iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_at_any_moment_leaves_no_entry_and_no_draft(
    code: int, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = cache.put("stage", OTHER, {"b": FILES["b"]}, {})
    left = 0

    def failing(function: Any) -> Any:
        def wrapped(path: Path, *arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(code, os.strerror(code))
            return function(path, *arguments, **options)

        return wrapped

    for name in ("write_bytes", "replace", "mkdir", "chmod"):
        monkeypatch.setattr(Path, name, failing(getattr(Path, name)))
    monkeypatch.setattr(cache_module, "sync", failing(cache_module.sync))
    for n in range(1, 100):
        left = n
        try:
            put(cache)
        except ExportError as error:
            assert os.strerror(code) in str(error)
            assert "free some space" in str(error)
            assert "KEEPSTEP_CACHE" in str(error)
        else:
            break
        finally:
            left = 0
        assert list((cache.folder / "tmp").iterdir()) == []
        found = cache.get("stage", KEY)
        assert found is None or read(found) == FILES  # whole, or only the last sync has failed
    assert n > 10, "writes, modes, syncs and renames of two objects and an entry"
    assert cache.get("stage", OTHER) == other
    assert strays(cache) == []


def test_a_disk_that_is_full_while_a_scratch_folder_is_written_is_told(cache: Cache) -> None:
    with pytest.raises(ExportError, match=r"No space left .*: free some space"), cache.scratch():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError), cache.scratch():  # no matter of the cache
        Path("nothing").read_bytes()
    assert strays(cache) == []
