from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli import tiny_bundle

from keepstep.exporter import cli


@dataclass(frozen=True)
class Outcome:
    """What a command left."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture(scope="session")
def model() -> Path:
    """A tiny diffusers folder that tests leave as it is."""
    return tiny_bundle.model()


@pytest.fixture(scope="session")
def bundle() -> Path:
    """The tiny model's bundle; tests leave it as it is."""
    return tiny_bundle.bundle()


@pytest.fixture
def damaged(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    return Path(shutil.copytree(bundle, tmp_path / "damaged"))


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which commands run."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


@pytest.fixture
def keepstep(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """Run a command line through `main`, as the console script does; exports are quick."""

    def command(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["keepstep", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        assert isinstance(code, int)
        return Outcome(code, *capsys.readouterr())

    with tiny_bundle.compiler().in_place():
        yield command


@pytest.fixture
def one_thread() -> list[str]:
    """The option that keeps tiny engines from waiting for each other."""
    return ["--threads", "1"]


def refused(outcome: Outcome, *words: str) -> str:
    """Check that a command ended with one message for the user; gives the message."""
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert outcome.err.startswith("keepstep: "), outcome.err
    assert outcome.err.count("keepstep: ") == 1
    assert len(outcome.err.rstrip().splitlines()) == 1, outcome.err
    assert len(outcome.err) < 1000, "a page of text is no message"
    for word in words:
        assert word in outcome.err, (word, outcome.err)
    return outcome.err


def environment(**extra: str) -> dict[str, str]:
    """What a child process is given."""
    return {**os.environ, "PYTHONWARNINGS": "", **extra}
