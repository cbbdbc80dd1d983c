"""SECURITY.md: every promise names what shows it, and that is there; and it is found by readers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
PROMISED = TEXT.split("## What is promised")[1].split("## What is not promised")[0]
ROWS = [line for line in PROMISED.splitlines() if line.startswith("| ") and "shown by" not in line]
SHOWS = ("tests/", "runtime/cpp/tests/", "runtime/cpp/fuzz/", "runtime/cpp/test.sh")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_a_promise_names_tests_that_there_are(row: str) -> None:
    *_, shown_by, end = row.split("|")
    assert end == ""
    named = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", shown_by)
    assert named, "no test backs it"
    for name, path in named:
        assert path.startswith(SHOWS)
        file = ROOT / path
        assert file.is_file()
        if file.suffix == ".py":
            assert "def test_" in file.read_text(encoding="utf-8")
        if file.name == "README.md":  # of a corpus
            assert any((ROOT / name).iterdir())
        else:
            assert file.name == name


def test_there_are_promises() -> None:
    assert len(ROWS) >= 12


@pytest.mark.parametrize("page", ["README.md", "docs/playing.md", "docs/embedding.md"])
def test_readers_are_led_to_it(page: str) -> None:
    assert re.search(r"\]\((\.\./)?SECURITY\.md", (ROOT / page).read_text(encoding="utf-8"))
