"""Commands that depend on one another, within a limit of time: the commands are real ones."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from runner import Result, Runner, Step

LONG = 600.0  # seconds: no test comes near


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def ran(folder: Path, steps: Sequence[Step], seconds: float = LONG) -> Mapping[str, Result]:
    return Runner(folder, time.monotonic() + seconds, lambda text: None).run(steps)


def states(results: Mapping[str, Result]) -> dict[str, str]:
    return {name: result.state for name, result in results.items()}


def test_a_step_begins_when_those_before_it_are_done(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    steps = [
        Step("read", python(f"print(open({str(mark)!r}).read())"), 0, ("write",)),
        Step("write", python(f"open({str(mark)!r}, 'w').write('here')"), 0),
    ]
    runner = Runner(tmp_path / "results", time.monotonic() + LONG, lambda text: None)
    assert states(runner.run(steps)) == {"write": "done", "read": "done"}
    assert runner.output("read") == "here\n"


def test_what_needs_a_step_that_failed_is_left_out_and_the_reason_is_told(tmp_path: Path) -> None:
    steps = [
        Step("bad", python("raise SystemExit('no such GPU')"), 0),
        Step("on it", python(""), 0, ("bad",)),
        Step("on that", python(""), 0, ("on it",)),
        Step("other", python(""), 0),
    ]
    results = ran(tmp_path, steps)
    expected = {"bad": "failed", "on it": "left out", "on that": "left out", "other": "done"}
    assert states(results) == expected
    assert results["bad"].said == "no such GPU"
    assert "needs bad" in results["on it"].said


def test_a_step_alone_shares_the_machine_with_no_other(tmp_path: Path) -> None:
    """Each step notes itself while it runs, and looks whether another does."""
    running = tmp_path / "running"
    running.mkdir()
    code = """
import os, sys, time
folder, name = sys.argv[1:]
open(f"{folder}/{name}", "w").close()
time.sleep(0.3)
others = sorted(set(os.listdir(folder)) - {name})
os.remove(f"{folder}/{name}")
print(*others)
"""

    def noted(name: str, alone: bool) -> Step:
        return Step(name, (*python(code), str(running), name), 0, alone=alone)

    steps = [noted("m1", True), noted("p1", False), noted("p2", False), noted("m2", True)]
    runner = Runner(tmp_path / "results", time.monotonic() + LONG, lambda text: None)
    runner.run(steps)
    assert [runner.output(name).strip() for name in ("m1", "m2")] == ["", ""]


def test_a_second_run_does_only_what_is_missing_or_different(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def noting(name: str, word: str, fail: bool = False) -> Step:
        code = f"open({str(log)!r}, 'a').write({word!r} + ' '); raise SystemExit({int(fail)})"
        return Step(name, python(code), 0)

    ran(tmp_path / "results", [noting("a", "a1"), noting("b", "b1", fail=True), noting("c", "c1")])
    ran(tmp_path / "results", [noting("a", "a1"), noting("b", "b1", fail=True), noting("c", "c2")])
    assert sorted(log.read_text(encoding="utf-8").split()) == ["a1", "b1", "b1", "c1", "c2"]


def test_what_would_take_longer_than_is_left_is_not_begun(tmp_path: Path) -> None:
    results = ran(tmp_path, [Step("long", python(""), 2 * LONG), Step("short", python(""), 0)])
    assert states(results) == {"long": "left out", "short": "done"}
    assert "takes about 1200 s" in results["long"].said


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")
def test_what_still_runs_at_the_end_of_the_time_is_ended_with_all_it_started(
    tmp_path: Path,
) -> None:
    pid = tmp_path / "pid"
    code = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(pid)!r}, "w").write(str(child.pid))
child.wait()
"""
    results = ran(tmp_path / "results", [Step("endless", python(code), 0)], seconds=5)
    assert states(results) == {"endless": "late"}
    child = int(pid.read_text(encoding="utf-8"))
    for _ in range(100):
        if not alive(child):
            break
        time.sleep(0.1)
    assert not alive(child)


def alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text(encoding="utf-8")
