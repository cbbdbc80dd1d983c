"""Told to end, a command cleans up and says so; with nobody to tell, it does not begin."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli.outcome import Outcome, environment
from cli.test_processes import SLOW_ENGINE, SLOW_PICTURE, python
from cli.tiny_bundle import contents

from keepstep.output.ending import Ended, orderly

SLOW_CLEANING = """
import time
from keepstep.cli import main as cli
def work(**_):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("cleaning", flush=True)
        time.sleep(60)
cli.app = work
"""


def ended(process: subprocess.Popen[str], number: signal.Signals) -> Outcome:
    """Send a signal when the process says that it is ready."""
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=50)  # less than the slowed function sleeps
    finally:
        process.kill()
    return Outcome(process.returncode, out.replace("ready\n", ""), err)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("code", "backend"), [(SLOW_ENGINE, "null"), (SLOW_PICTURE, "onnxruntime")]
)
def test_a_signal_ends_a_run_with_a_line_and_leaves_nothing(
    number: signal.Signals, code: str, backend: str, bundle: Path, workplace: Path
) -> None:
    arguments = ["run", str(bundle), "--prompt", "a", "-o", "a.png", "--backend", backend]
    message = f"keepstep: ended by {number.name}; nothing was written\n"
    assert ended(python(code, *arguments), number) == Outcome(128 + number, "", message)
    assert contents(workplace) == {}


def test_a_second_signal_ends_even_the_cleaning() -> None:
    process = python(SLOW_CLEANING, "schedules")
    assert process.stdout is not None
    try:
        for line in ("ready\n", "cleaning\n"):
            assert process.stdout.readline() == line
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=50) == -signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


def test_what_was_ignored_stays_ignored_and_what_was_taken_is_given_back() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(Ended), orderly() as came:
            signal.raise_signal(signal.SIGHUP)
            assert came == []
            signal.raise_signal(signal.SIGTERM)
        assert came == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    "arguments", [["schedules"], ["cache", "list"], ["inspect", "x"], ["--version"], ["--help"]]
)
def test_a_closed_output_is_refused_before_any_work(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "keepstep", *arguments]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert done.returncode == 2
    assert done.stderr.startswith("keepstep: the output is closed")
    assert len(done.stderr.splitlines()) == 1


def test_with_both_streams_closed_there_is_still_an_exit_code() -> None:
    command = [sys.executable, "-m", "keepstep", "schedules"]
    done = subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command], env=environment())
    assert done.returncode == 2


def test_a_closed_error_stream_is_no_fault_and_its_number_is_not_given_to_a_file() -> None:
    code = (
        "from keepstep.output import ending\nending.check_output()\nprint(open('x', 'w').fileno())"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert done.returncode == 0
    assert int(done.stdout) > 2


@pytest.mark.parametrize("arguments", [["schedules"], ["schedules", "--json"], ["--help"]])
def test_a_pipe_that_nobody_reads_is_no_success_and_no_traceback(arguments: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "keepstep", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as err:
        assert err.read() == ""
    assert process.wait(timeout=60) != 0
