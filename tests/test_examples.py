"""The numbered examples run from end to end, in a folder with a tiny model and its bundle."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli import tiny_bundle
from cli.outcome import environment
from PIL import Image

from keepstep.runtime import Bundle

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("[0-9]*.py"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the repository's root is meant: examples say models/emoji and engines/emoji."""
    shutil.copytree(tiny_bundle.model(), tmp_path / "models/emoji")
    shutil.copytree(tiny_bundle.bundle(), tmp_path / "engines/emoji")
    return tmp_path


def run(name: str, folder: Path) -> str:
    """What an example prints."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment(OMP_NUM_THREADS="1"),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_export(folder: Path) -> None:
    shutil.rmtree(folder / "engines")
    (folder / "engines").mkdir()
    said = run("01_export.py", folder)
    assert Bundle.open(folder / "engines/emoji").plans == ("full", "dato-coco")
    assert "full: 51 steps, 54 launches" in said
    assert re.search(r"^engines/emoji: \d+ files, \d+\.\d MB$", said, re.M)


def test_pictures(folder: Path) -> None:
    said = run("02_play.py", folder)
    for name in ("full", "dato-coco"):
        assert re.search(
            rf"^{name}: 'a red apple' in \d+\.\d\d s, out/02_play-{name}.png$", said, re.M
        )
        with Image.open(folder / f"out/02_play-{name}.png") as picture:
            assert picture.size == (64, 64)


def test_embedding_without_pytorch(folder: Path) -> None:
    said = run("03_embed.py", folder)
    assert "inputs: noise float32 [1, 4, 32, 32]" in said
    assert "feeds: prompt_embeds float32" in said
    assert "with embeddings: 6 of 7 calls" in said
    assert "lent: image uint8 (1, 64, 64, 3)" in said
    assert re.search(r"^refused: .*noise.*\[1, 4, 32, 32\]", said, re.M)
    assert said.endswith("PyTorch loaded: False\n")


def test_a_schedule_of_ones_own(folder: Path) -> None:
    said = run("04_own_schedule.py", folder)
    assert Bundle.open(folder / "engines/own-schedule").plans == ("full", "mine")
    assert said.startswith("mine: 10 full, 8 shallow, 2 skip\n")
    assert re.search(r"s full, .* s mine, \d+\.\d dB alike$", said, re.M)


def test_every_example_is_told_of_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert EXAMPLES
    for name in EXAMPLES:
        assert f"(examples/{name})" in text
