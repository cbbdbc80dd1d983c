"""Where a result cannot be written, that is said before the work; where it fails, nothing stays."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from cli.outcome import Command, refused
from cli.tiny_bundle import contents

from keepstep.output.result_file import check_file_target, write_beside
from keepstep.runtime import Player
from keepstep.runtime.errors import InputError, KeepstepError

READ_ONLY = OSError(errno.EROFS, os.strerror(errno.EROFS))
# What is written by which command; each is refused before a bundle is even looked for.
COMMANDS = {
    "picture": (["run", "no-bundle", "--prompt", "a", "-o"], "a.png"),
    "arrays": (["run", "no-bundle", "--inputs", "in.safetensors", "--outputs"], "o.safetensors"),
    "inputs": (["run", "no-bundle", "--prompt", "a", "--save-inputs"], "i.safetensors"),
    "page": (["bench", "no-bundle", "--html"], "a.html"),
}


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filesystem on which nothing is made, nor removed: not even what is not there."""

    def refuse(*_: object, **__: object) -> None:
        raise READ_ONLY

    opened = os.open

    def open_(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & os.O_CREAT:
            raise READ_ONLY
        return opened(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", open_)
    for name in ("mkdir", "unlink"):
        monkeypatch.setattr(os, name, refuse)


@pytest.mark.usefixtures("read_only")
@pytest.mark.parametrize("what", COMMANDS)
def test_a_read_only_filesystem_is_told_before_any_work(what: str, keepstep: Command) -> None:
    arguments, name = COMMANDS[what]
    refused(keepstep(*arguments, name), f"{name}: cannot be written: Read-only", "choose another")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("what", COMMANDS)
def test_a_folder_that_takes_no_files_from_anybody_is_told_before_any_work(
    what: str, keepstep: Command
) -> None:
    arguments, name = COMMANDS[what]
    refused(keepstep(*arguments, f"/proc/{name}"), f"/proc/{name}: cannot be written")


@pytest.mark.parametrize("what", COMMANDS)
def test_a_target_that_is_no_file_is_refused_and_stays(
    what: str, keepstep: Command, workplace: Path
) -> None:
    arguments, name = COMMANDS[what]
    os.mkfifo(name)
    refused(keepstep(*arguments, name), f"{name}: is there and no file")
    assert Path(name).is_fifo()
    Path(name).unlink()
    Path(name).mkdir()
    refused(keepstep(*arguments, name), f"{name}: is a folder")
    refused(keepstep(*arguments, f"missing/{name}"), "there is no folder missing: make it")
    Path("file").write_bytes(b"")
    refused(keepstep(*arguments, f"file/{name}"), "there is no folder file: make it")
    refused(keepstep(*arguments, f"{'x' * 300}{Path(name).suffix}"), "cannot be written")


@pytest.mark.parametrize("what", COMMANDS)
def test_asking_whether_a_file_can_be_written_leaves_no_trace(
    what: str, keepstep: Command, workplace: Path
) -> None:
    arguments, name = COMMANDS[what]
    Path(name).write_bytes(b"old")
    refused(keepstep(*arguments, name), "no-bundle")
    assert contents(workplace) == {name: b"old"}


def test_a_filesystem_that_turns_read_only_is_told_in_words(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The draft cannot even be removed; the message is about the file all the same."""

    def turns(draft: Path) -> None:
        monkeypatch.setattr(Path, "unlink", turns)
        raise READ_ONLY

    check_file_target(workplace / "a.png", ".png")
    with pytest.raises(KeepstepError, match=r"a\.png: cannot be written: Read-only file system"):
        write_beside(workplace / "a.png", turns)


def test_nothing_is_played_where_the_picture_cannot_be_written(
    keepstep: Command, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Player, "run", lambda *_: pytest.fail("work was done"))
    refused(keepstep("run", bundle, "--prompt", "a", "-o", "no/a.png"), "there is no folder no")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_an_export_that_cannot_be_written_is_told_before_any_work(
    keepstep: Command, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepstep.exporter.models.load", lambda *_: pytest.fail("work was done"))
    refused(keepstep("export", model, "-o", "/proc/x", "-s", "full"), "/proc/x: cannot be written")


def test_an_export_takes_the_place_of_no_fifo(keepstep: Command, model: Path) -> None:
    os.mkfifo("out")
    refused(keepstep("export", model, "-o", "out", "-s", "full"), "out: there already, and not a")
    assert Path("out").is_fifo()


def test_a_new_file_may_be_read_by_whom_the_umask_lets(workplace: Path) -> None:
    before = os.umask(0o022)
    try:
        write_beside(workplace / "a", lambda draft: draft.write_bytes(b"1"))
    finally:
        os.umask(before)
    assert (workplace / "a").stat().st_mode & 0o777 == 0o644


def test_a_draft_never_follows_a_link(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that others may write to, a name that is known beforehand may be one."""
    monkeypatch.setattr("secrets.token_hex", lambda _: "0")
    (workplace / "victim").write_bytes(b"mine")
    (workplace / ".keepstep-0.part").symlink_to("victim")
    with pytest.raises(InputError, match="File exists"):
        check_file_target(workplace / "a.png", ".png")
    assert (workplace / "victim").read_bytes() == b"mine"
