"""Whatever a path, a file or another library holds, a terminal is only told to print it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from cli.outcome import Command, refused
from rich.table import Table

from keepstep.cli.main import main
from keepstep.output import tables, terminal
from keepstep.output.progress import progress
from keepstep.output.terminal import Terminal
from keepstep.runtime.errors import InputError

# Moves the cursor, hides what follows, is styled, becomes a picture, cannot be encoded.
HOSTILE = "a\x1b[2J\r\u202e[red]b[/]:smile:\udcff"
PRINTED = r"a\x1b[2J\r\u202e[red]b[/]:smile:\udcff"


def test_a_path_is_printed_in_messages_as_what_it_is(keepstep: Command, workplace: Path) -> None:
    message = refused(keepstep("inspect", HOSTILE), f"{PRINTED}: there is no such folder")
    assert message.rstrip().isprintable()
    refused(keepstep("export", "m", "-o", "o", "-s", f"{HOSTILE}.yaml"), f"{PRINTED}.yaml")
    refused(
        keepstep("inspect", "x", f"--{HOSTILE}"), r"--a\x1b[2J", r"\u202e[red]b[/]:smile:\udcff"
    )


def test_a_path_is_printed_in_results_as_what_it_is(
    keepstep: Command, bundle: Path, one_thread: list[str]
) -> None:
    folder = Path("[red]:smile:\x1b[31m")
    folder.mkdir()
    outcome = keepstep("run", bundle, "--prompt", "a", "-o", folder / "a.png", *one_thread)
    assert re.fullmatch(r"\[red\]:smile:\\x1b\[31m/a\.png: full, [0-9.]+ s\n", outcome.out)


def test_what_another_library_says_is_one_line_of_bounded_length(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise InputError(f"x: {HOSTILE}\n  at line 1\n{'y' * 10_000}")

    monkeypatch.setattr("keepstep.cli.main.app", fail)
    with pytest.raises(SystemExit, match="2"):
        main()
    err = capsys.readouterr().err
    assert err.startswith(f"keepstep: x: {PRINTED} at line 1 yyyy")
    assert len(err) < 2100
    assert err.endswith("y…\n")


def test_names_in_tables_are_printed_as_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    table.add_row(terminal.words(HOSTILE, "bold"))
    terminal.wide().print(table)
    out = capsys.readouterr().out
    assert out.count(PRINTED) == 4
    assert out.replace("\n", "").isprintable()


def test_what_is_being_done_is_told_as_what_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar is drawn on a terminal only, so the console is told that it is one."""
    monkeypatch.setattr(terminal.err, "_force_terminal", True)
    monkeypatch.setattr(terminal.err, "is_interactive", True)
    monkeypatch.setattr(terminal.err, "width", 200)
    with progress() as report:
        report(HOSTILE, 1, 2)
    assert PRINTED in capsys.readouterr().err


def test_text_of_any_language_is_left_alone() -> None:
    for text in ("Äpfel × 3 – “rot”", "りんご", "яблоко", "🍎", "two\nlines"):
        assert terminal.printable(text) == text


def test_json_of_what_is_no_number_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"error": math.nan, "tensors": [math.inf, (1.5, -math.inf)], "good": False}
    tables.print_json(Terminal(), data)
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found == {"error": None, "tensors": [None, [1.5, None]], "good": False}
