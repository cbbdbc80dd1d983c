from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime import cpp_tool
from runtime.lora_bundle import write_lora_bundle
from runtime.toy_bundle import write_bundle

from keepstep.runtime import Bundle, Player


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A toy bundle that a test may damage."""
    return write_bundle(tmp_path / "toy")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A toy bundle that tests leave as it is."""
    return Bundle.open(write_bundle(tmp_path_factory.mktemp("bundle") / "toy"))


@pytest.fixture
def player(bundle: Bundle) -> Iterator[Player]:
    with bundle.player("toy", threads=1) as player:
        yield player


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that is all weights; tests leave it as it is."""
    return Bundle.open(write_lora_bundle(tmp_path_factory.mktemp("lora") / "bundle"))


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cpp_tool.Tool:
    """`keepstep-run` in an empty folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return cpp_tool.run
