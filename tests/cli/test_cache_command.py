"""`keepstep cache`: what people and programs read of it, and what it refuses."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from cli.outcome import Command, refused

from keepstep.exporter.store.cache import Cache, cache_key


@pytest.fixture(autouse=True)
def folder(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a text stage of 12 kB used now and a full one of 3 MB used 10 days ago."""
    monkeypatch.setenv("KEEPSTEP_CACHE", str(workplace / "cache"))
    about = {"stage": "full", "backend": "onnxruntime"}
    with Cache.default() as cache:
        cache.put("engine", cache_key({"n": 1}), {"a": b"a" * 12_000}, {**about, "stage": "text"})
        old = cache.put("engine", cache_key({"n": 2}), {"a": b"b" * 3_000_000}, about)
    used = time.time() - 10 * 24 * 60 * 60
    os.utime(cache.folder / f"entries/engine/{old.key}.json", (used, used))
    return cache.folder


def test_the_list_says_what_how_large_and_when(keepstep: Command, folder: Path) -> None:
    outcome = keepstep("cache", "list")
    heading, text, full, total = outcome.out.splitlines()
    assert heading.split() == ["kind", "what", "size", "last", "used"]
    assert "stage text, backend onnxruntime" in text
    assert "12 kB" in text
    assert "stage full" in full
    assert "3.0 MB" in full
    assert f"{time.localtime(time.time() - 10 * 24 * 60 * 60).tm_mday:02}" in full
    assert total == f"{folder}: 2 entries, 3.0 MB"


def test_the_list_as_json(keepstep: Command, folder: Path) -> None:
    said = json.loads(keepstep("cache", "list", "--json").out)
    assert (said["folder"], said["bytes"]) == (str(folder), 3_012_000)
    first, second = said["entries"]
    assert first["about"] == {"stage": "text", "backend": "onnxruntime"}
    assert (second["kind"], second["key"]) == ("engine", cache_key({"n": 2}))
    assert second["bytes"] == 3_000_000
    assert second["last_used"].endswith("+00:00")


def test_an_empty_cache_is_listed_and_pruned(
    keepstep: Command, monkeypatch: pytest.MonkeyPatch, workplace: Path
) -> None:
    monkeypatch.setenv("KEEPSTEP_CACHE", str(workplace / "none"))
    assert keepstep("cache", "list").out == f"{workplace}/none: 0 entries, 0 kB\n"
    assert keepstep("cache", "prune").out == "0 entries dropped, 0 kB freed\n"
    assert not (workplace / "none").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "0 entries dropped, 0 kB freed\n"),
        (["--older-than", "11"], "0 entries dropped, 0 kB freed\n"),
        (["--older-than", "9"], "1 entry dropped, 3.0 MB freed\n"),
        (["--older-than", "0"], "2 entries dropped, 3.0 MB freed\n"),
        (["--all"], "2 entries dropped, 3.0 MB freed\n"),
    ],
)
def test_pruning_says_what_it_freed(options: list[str], said: str, keepstep: Command) -> None:
    assert keepstep("cache", "prune", *options).out == said


def test_pruning_everything_leaves_two_empty_locks_and_no_other_file(
    keepstep: Command, folder: Path
) -> None:
    assert keepstep("cache", "prune", "--all").code == 0
    left = {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    assert left == {"in-use.lock": 0, "change.lock": 0}


def test_pruning_as_json_and_what_bundles_keep(keepstep: Command, folder: Path) -> None:
    with Cache(folder) as cache:
        entry = cache.get("engine", cache_key({"n": 2}))
        assert entry is not None
        Path("linked").hardlink_to(entry.files["a"].path)
    said = json.loads(keepstep("cache", "prune", "--all", "--json").out)
    assert said == {"entries": 2, "freed": 12_000, "linked": 3_000_000}


def test_what_is_linked_is_told(keepstep: Command, folder: Path) -> None:
    (path,) = (p for p in folder.glob("objects/*/*") if p.stat().st_size == 3_000_000)
    Path("linked").hardlink_to(path)
    outcome = keepstep("cache", "prune", "--all")
    assert outcome.out == "2 entries dropped, 12 kB freed; 3.0 MB more are still part of bundles\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--all", "--older-than", "3"], "give one of them"),
        (["--older-than", "-1"], "--older-than"),
        (["--older-than", "nan"], "--older-than"),
        (["--older-than", "1" * 99], "--older-than"),
    ],
)
def test_a_wrong_age_is_refused(options: list[str], words: str, keepstep: Command) -> None:
    refused(keepstep("cache", "prune", *options), words)


def test_a_cache_in_use_is_refused_with_its_user(keepstep: Command, folder: Path) -> None:
    with Cache(folder) as cache:
        cache.get("engine", cache_key({"n": 1}))
        refused(keepstep("cache", "prune", "--all"), f"in use by process {os.getpid()}", "wait")


def test_a_cache_that_is_a_file_is_refused(
    keepstep: Command, monkeypatch: pytest.MonkeyPatch, workplace: Path
) -> None:
    (workplace / "file").write_text("a file")
    monkeypatch.setenv("KEEPSTEP_CACHE", str(workplace / "file"))
    for command in ("list", "prune"):
        refused(keepstep("cache", command), "file: ", "set KEEPSTEP_CACHE")
