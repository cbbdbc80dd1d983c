"""A full disk and Ctrl-C: nothing half written is ever seen, and what was there stays."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli import tiny_bundle
from cli.outcome import Command, Outcome, refused
from cli.tiny_bundle import contents

from keepstep.exporter.errors import ExportError
from keepstep.exporter.store import bundle_place, bundle_writer
from keepstep.exporter.store.bundle_writer import write_bundle
from keepstep.exporter.store.cache import Cache, Entry
from keepstep.runtime import Bundle

RENAME = Path.rename
FULL_DISK = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FailsAt:
    """A function that works until its n-th call, then half works and raises."""

    def __init__(self, n: int, error: BaseException) -> None:
        self.left = n
        self.error = error

    def before(self, function: Any) -> Any:
        def wrapped(path: Path, *arguments: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                if path.parent.is_dir():
                    path.with_name(f"{path.name}.half").write_bytes(b"half")
                raise self.error
            return function(path, *arguments)

        return wrapped


@pytest.fixture
def old(workplace: Path) -> dict[str, bytes | None]:
    """An older bundle at `out`, in bytes."""
    write_bundle(tiny_bundle.content(), workplace / "out")
    (workplace / "out/bundle.json").write_bytes(b"an older bundle")
    return contents(workplace)


@pytest.mark.parametrize("error", [FULL_DISK, KeyboardInterrupt()], ids=["disk", "interrupt"])
@pytest.mark.parametrize("there", ["nothing", "an old bundle"])
def test_failing_at_any_file_leaves_what_was_there(
    error: BaseException,
    there: str,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    before = request.getfixturevalue("old") if there == "an old bundle" else {}
    names = ("_write", "_save", "_link_or_copy")
    functions = {name: getattr(bundle_writer, name) for name in names}
    for n in range(1, 100):
        fails = FailsAt(n, error)
        for name, function in functions.items():
            monkeypatch.setattr(bundle_writer, name, fails.before(function))
        try:
            made = write_bundle(tiny_bundle.content(), workplace / "out")
        except (ExportError, KeyboardInterrupt):
            assert contents(workplace) == before
        else:
            break
    # Every file that is listed was reached once, and bundle.json itself.
    assert n - 2 == len(made.manifest.files)
    assert Bundle.open(workplace / "out").plans == ("full", "dato-coco")
    assert [path.name for path in workplace.iterdir()] == ["out"]


@pytest.fixture
def renames_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that cannot swap two names at once."""
    monkeypatch.setattr(bundle_place, "exchange", lambda *_: False)


@pytest.mark.usefixtures("renames_only")
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("error", [FULL_DISK, KeyboardInterrupt()], ids=["disk", "interrupt"])
def test_failing_at_a_rename_leaves_the_old_bundle(
    n: int,
    error: BaseException,
    old: dict[str, bytes | None],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    renames = []

    def rename(path: Path, target: Path) -> None:
        renames.append(target)
        if len(renames) == n:
            raise error
        RENAME(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises((ExportError, KeyboardInterrupt)):
        write_bundle(tiny_bundle.content(), workplace / "out")
    assert contents(workplace) == old


@pytest.mark.usefixtures("renames_only")
def test_interrupted_between_the_renames_the_old_bundle_comes_back(
    old: dict[str, bytes | None], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal arrives when the old bundle has just been moved aside."""
    renames = []

    def rename(path: Path, target: Path) -> None:
        RENAME(path, target)
        renames.append(target)
        if len(renames) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tiny_bundle.content(), workplace / "out")
    assert contents(workplace) == old


@pytest.mark.parametrize("swapped", [False, True])
def test_interrupted_while_names_are_swapped_one_of_the_two_bundles_is_there(
    swapped: bool,
    old: dict[str, bytes | None],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchange = bundle_place.exchange

    def interrupted(one: Path, other: Path) -> bool:
        if swapped:
            assert exchange(one, other) or pytest.skip("this system cannot swap names")
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle_place, "exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tiny_bundle.content(), workplace / "out")
    if swapped:
        assert Bundle.open(workplace / "out").plans == ("full", "dato-coco")
        assert [path.name for path in workplace.iterdir()] == ["out"]
    else:
        assert contents(workplace) == old


def test_a_full_disk_is_told_with_the_way_out(
    keepstep: Command,
    model: Path,
    old: dict[str, bytes | None],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fails = FailsAt(3, FULL_DISK)
    monkeypatch.setattr(bundle_writer, "_write", fails.before(bundle_writer._write))
    outcome = keepstep("export", model, "-o", "out", "-s", "full")
    refused(outcome, "out: cannot be written", "No space left", "free some space")
    assert contents(workplace) == old


def test_a_failing_export_leaves_the_old_bundle(
    keepstep: Command, model: Path, old: dict[str, bytes | None], workplace: Path
) -> None:
    refused(keepstep("export", model, "-o", "out", "-s", "ful"), "Did you mean 'full'")
    assert contents(workplace) == old


def uncached(get: Callable[..., Entry | None]) -> Callable[..., Entry | None]:
    """A cache that has never seen this export, but everything that it is made of."""
    made_whole = ("export", "run")
    return lambda self, kind, key: None if kind in made_whole else get(self, kind, key)


@pytest.mark.parametrize(
    "moment",
    [
        "compiler.content_of",
        "models.load",
        "compilation.lower_schedule",
        "compilation.StageCompiler.convert",
        "compilation.StageCompiler.build",
        "compilation.record_run",
        "bundle_check.verify",
        "compiler.write_bundle",
    ],
)
@pytest.mark.parametrize("there", ["nothing", "an old bundle"])
def test_ctrl_c_at_any_stage_of_an_export_leaves_what_was_there(
    moment: str,
    there: str,
    keepstep: Command,
    model: Path,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    before = request.getfixturevalue("old") if there == "an old bundle" else {}

    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Cache, "get", uncached(Cache.get))
    monkeypatch.setattr(f"keepstep.exporter.{moment}", interrupted)
    outcome = keepstep("export", model, "-o", "out", "-s", "full")
    assert outcome == Outcome(130, "", "keepstep: interrupted; nothing was written\n")
    assert contents(workplace) == before


def test_a_full_disk_leaves_no_half_picture(
    keepstep: Command,
    bundle: Path,
    workplace: Path,
    one_thread: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (workplace / "a.png").write_bytes(b"an older picture")

    def save(_image: object, draft: Path, **_: object) -> None:
        draft.write_bytes(b"half")
        raise FULL_DISK

    monkeypatch.setattr("PIL.Image.Image.save", save)
    outcome = keepstep("run", bundle, "--prompt", "a", "-o", "a.png", *one_thread)
    refused(outcome, "a.png: cannot be written: No space left", "free some space")
    assert contents(workplace) == {"a.png": b"an older picture"}
