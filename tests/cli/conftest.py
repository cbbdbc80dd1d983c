from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from cli import tiny_bundle
from cli.outcome import Command, Outcome

from keepstep.cli import main as cli


@pytest.fixture(scope="session", autouse=True)
def quick_exports(one_table_of_operators: None) -> None:
    """Tests here export."""


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
    """A copy of the bundle that a test may damage: without the modes, since links are read-only."""
    return Path(shutil.copytree(bundle, tmp_path / "damaged", copy_function=shutil.copyfile))


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
def keepstep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line through `main`, as the console script does; exports are quick."""

    def command(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["keepstep", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        assert isinstance(code, int)
        return Outcome(code, *capsys.readouterr())

    return command


@pytest.fixture
def one_thread() -> list[str]:
    """The option that keeps tiny engines from waiting for each other."""
    return ["--threads", "1"]
