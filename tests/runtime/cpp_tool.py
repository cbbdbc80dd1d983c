"""`keepstep-run` where `make test-cpp` has built it, for tests to run."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.outcome import Outcome

ROOT = Path(__file__).resolve().parents[2]
BUILT = sorted(ROOT.glob("build/cpp/*/tool/keepstep-run"), key=lambda path: path.stat().st_mtime)
TOOL = BUILT[-1] if BUILT else None
built = pytest.mark.skipif(TOOL is None, reason="no keepstep-run is built: make test-cpp")
Tool = Callable[..., Outcome]
# Moves the cursor, turns what follows around, is styled, becomes a picture.
HOSTILE = "a\x1b[2J\r\u202e[red]b[/]:smile:"
PRINTED = r"a\x1b[2J\x0d\u202e[red]b[/]:smile:"


def run(*arguments: object) -> Outcome:
    """Run the program to its end."""
    line = [str(TOOL), *map(str, arguments)]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=120)
    return Outcome(ended.returncode, ended.stdout, ended.stderr)


def on_a_terminal(
    *arguments: object, interrupted_at: str = "\0", by: signal.Signals = signal.SIGINT
) -> tuple[int, str]:
    """The exit code, and what a terminal as the error stream was sent.

    When it has been sent `interrupted_at`, Ctrl-C is pressed, or another signal sent.
    """
    ours, theirs = pty.openpty()
    # Tests may be run where a signal is ignored, as under `nohup`, and the tool keeps to that.
    heeding = "import os, signal, sys; signal.signal(int(sys.argv[1]), signal.SIG_DFL); "
    heeding += "os.execv(sys.argv[2], sys.argv[2:])"
    line = [sys.executable, "-c", heeding, str(int(by)), str(TOOL), *map(str, arguments)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        sent = ""
        while True:
            try:
                news = os.read(ours, 1 << 16).decode(errors="replace")
            except OSError:  # how the end of a terminal is told
                news = ""
            sent += news
            if not news:
                break
            if interrupted_at in sent:
                process.send_signal(by)
                interrupted_at = "\0"
    os.close(ours)
    return process.returncode, sent
