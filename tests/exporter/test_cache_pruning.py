"""Where the cache lies, what it leaves behind, and what pruning takes from it and from whom."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from exporter.cache_process import python

from keepstep.exporter.errors import ExportError
from keepstep.exporter.store.cache import Cache, Entry, cache_key

DAY = 24 * 60 * 60


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def put(cache: Cache, n: int, files: Mapping[str, bytes], days_ago: float = 0) -> Entry:
    entry = cache.put("stage", cache_key({"n": n}), files, {})
    cache.close()
    used = time.time() - days_ago * DAY
    os.utime(cache.folder / f"entries/stage/{entry.key}.json", (used, used))
    return entry


def keys(cache: Cache) -> set[str]:
    return {use.entry.key for use in cache.entries()}


def test_what_was_not_used_for_long_goes_with_the_objects_that_nothing_else_names(
    cache: Cache,
) -> None:
    old = put(cache, 1, {"own": b"x" * 100, "both": b"y" * 1000}, days_ago=8)
    new = put(cache, 2, {"own": b"z", "both": b"y" * 1000}, days_ago=6)
    pruned = cache.prune(timedelta(days=7))
    assert (pruned.entries, pruned.freed, pruned.linked) == (1, 100, 0)
    assert keys(cache) == {new.key}
    assert cache.get("stage", new.key) == new
    assert not old.files["own"].path.exists()


def test_getting_an_entry_is_a_use_of_it(cache: Cache) -> None:
    entry = put(cache, 1, {"a": b"a"}, days_ago=8)
    with Cache(cache.folder) as user:
        assert user.get("stage", entry.key) == entry
    (use,) = cache.entries()
    assert datetime.now(UTC) - use.last < timedelta(days=1)
    assert cache.prune(timedelta(days=7)).entries == 0


def test_pruning_everything_leaves_an_empty_cache_that_works(cache: Cache) -> None:
    put(cache, 1, {"a": b"a" * 10})
    (cache.folder / "entries/stage/junk.json").write_text("not ours")
    garbled = cache.folder / f"entries/stage/{cache_key({})}.json"
    garbled.write_text("{")
    pruned = cache.prune()
    assert (pruned.entries, pruned.freed) == (2, 10)
    assert keys(cache) == set()
    assert not garbled.exists()
    assert cache.total_bytes() == 0
    assert put(cache, 1, {"a": b"a"}) == cache.get("stage", cache_key({"n": 1}))


def test_objects_that_bundles_still_link_to_are_not_counted_as_freed(
    cache: Cache, tmp_path: Path
) -> None:
    blob = put(cache, 1, {"a": b"a" * 10}).files["a"]
    (tmp_path / "linked").hardlink_to(blob.path)
    pruned = cache.prune()
    assert (pruned.freed, pruned.linked) == (0, 10)
    assert (tmp_path / "linked").read_bytes() == b"a" * 10


def test_pruning_leaves_alone_what_is_not_the_caches(cache: Cache) -> None:
    """Somebody may have chosen a folder with other things in it, such as a git folder."""
    put(cache, 1, {"a": b"a"})
    others = ["objects/ab/" + "c" * 38, "objects/pack/x", "entries/x", "tmp/notes/x", "tmp/y", "z"]
    for name in others:
        (cache.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (cache.folder / name).write_text(name)
    cache.prune()
    assert [(cache.folder / name).read_text() for name in others] == others


def test_pruning_what_is_not_there_is_nothing(cache: Cache) -> None:
    assert cache.entries() == []
    assert cache.total_bytes() == 0
    assert cache.prune().entries == 0
    assert not cache.folder.exists()


HOLDS = """
entry = cache.get("stage", cache_key({"n": 1}))
print(entry.files["a"].path, flush=True)
import time
time.sleep(60)
"""
WORKS = """
with cache.scratch() as work:
    (work / "half").write_bytes(b"half")
    print(work, flush=True)
    import time
    time.sleep(60)
"""


def test_a_process_that_holds_blobs_keeps_them_and_pruning_says_who_it_is(cache: Cache) -> None:
    put(cache, 1, {"a": b"a"})
    process = python(HOLDS, cache)
    assert process.stdout is not None
    try:
        path = Path(process.stdout.readline().strip())
        with pytest.raises(ExportError, match=rf"in use by process {process.pid}: wait until"):
            cache.prune()
        assert path.read_bytes() == b"a"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert cache.prune().entries == 1


def test_a_cache_is_in_use_until_it_is_closed(cache: Cache) -> None:
    put(cache, 1, {"a": b"a"})
    with Cache(cache.folder) as user:
        cache.prune(timedelta(days=1))
        assert user.get("stage", cache_key({"n": 1})) is not None
        with pytest.raises(ExportError, match="in use"):
            cache.prune()
    assert cache.prune().entries == 1


def test_a_cache_that_nobody_refers_to_is_not_in_use(cache: Cache) -> None:
    put(cache, 1, {"a": b"a"})
    Cache(cache.folder).get("stage", cache_key({"n": 1}))
    assert cache.prune().entries == 1


def test_a_cache_that_was_deleted_while_in_use_is_begun_anew(cache: Cache) -> None:
    with cache:
        cache.put("stage", cache_key({"n": 1}), {"a": b"a"}, {})
        shutil.rmtree(cache.folder)
        assert cache.get("stage", cache_key({"n": 1})) is None
        again = cache.put("stage", cache_key({"n": 1}), {"a": b"a"}, {})
        assert cache.get("stage", cache_key({"n": 1})) == again


def test_the_next_user_removes_what_a_killed_process_left_and_nothing_of_a_living_one(
    cache: Cache,
) -> None:
    processes = [python(WORKS, cache) for _ in range(2)]
    try:
        folders = [Path(p.stdout.readline().strip()) for p in processes if p.stdout]
        processes[0].kill()
        processes[0].communicate()
        with cache.scratch():
            assert [folder.exists() for folder in folders] == [False, True]
        assert (folders[1] / "half").read_bytes() == b"half"
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    cache.close()
    cache.prune()
    assert list((cache.folder / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"KEEPSTEP_CACHE": "{0}/a", "XDG_CACHE_HOME": "{0}/b", "HOME": "{0}/c"}, "a"),
        ({"KEEPSTEP_CACHE": "", "XDG_CACHE_HOME": "{0}/b", "HOME": "{0}/c"}, "b/keepstep"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "{0}/c"}, "c/.cache/keepstep"),
        ({"HOME": "{0}/c"}, "c/.cache/keepstep"),
    ],
)
def test_where_the_cache_lies(
    variables: dict[str, str], folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KEEPSTEP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert Cache.default().folder == tmp_path / folder


def test_a_cache_that_cannot_be_is_told_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    for folder in (tmp_path / "file", tmp_path / "file/in", Path("/proc/cache")):
        with pytest.raises(ExportError, match=f"cache {folder}: .*: set KEEPSTEP_CACHE to another"):
            put(Cache(folder), 1, {"a": b"a"})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_is_told_with_the_way_out(cache: Cache) -> None:
    put(cache, 1, {"a": b"a"})
    (cache.folder / "tmp").chmod(0o555)
    try:
        with pytest.raises(ExportError, match="Permission denied: set KEEPSTEP_CACHE"):
            cache.put("stage", cache_key({"n": 2}), {"a": b"b"}, {})
    finally:
        (cache.folder / "tmp").chmod(0o755)
