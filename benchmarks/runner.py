"""Runs commands that depend on one another within a limit of time, and remembers what is done.

What may run beside others does; what measures runs alone. Every result is a file, so that a second
run goes on where the first one ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

State = Literal["done", "failed", "late", "left out"]
_POLL = 0.05  # seconds
_LAST_LINES = 12  # of what a failed command said


@dataclass(frozen=True)
class Step:
    """One command.

    seconds   that it is expected to take; it is left out where less is left
    after     names of steps that must be done before
    alone     nothing else may run meanwhile
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    after: tuple[str, ...] = ()
    alone: bool = False


@dataclass(frozen=True)
class Result:
    """What came of a step; `said` is the end of its error output, or why it did not run."""

    name: str
    command: tuple[str, ...]
    state: State
    seconds: float = 0.0
    said: str = ""


@dataclass
class _Running:
    step: Step
    process: subprocess.Popen[bytes]
    begin: float


@dataclass
class Runner:
    """folder    where results, and the output of commands, are kept
    deadline  on the monotonic clock; what still runs then is ended
    report    is told of every step that begins or ends
    """

    folder: Path
    deadline: float
    report: Callable[[str], None]
    results: dict[str, Result] = field(default_factory=dict)

    def run(self, steps: Sequence[Step]) -> Mapping[str, Result]:
        """Run all of `steps`, in their order as far as `after` and `alone` let them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        waiting = [step for step in steps if not self._known(step)]
        running: list[_Running] = []
        try:
            while waiting or running:
                running = [each for each in running if not self._ended(each)]
                waiting = [step for step in waiting if not self._left_out(step)]
                for step in self._startable(waiting, running):
                    waiting.remove(step)
                    running.append(self._start(step))
                time.sleep(_POLL)
        finally:  # also of an interrupt
            for each in running:
                _end(each.process)
        return self.results

    def output(self, name: str) -> str:
        """What a step wrote to its standard output."""
        return self._file(name, "out").read_text(encoding="utf-8")

    def _startable(self, waiting: Sequence[Step], running: Sequence[_Running]) -> list[Step]:
        if any(each.step.alone for each in running):
            return []
        ready = [s for s in waiting if all(self._is_done(name) for name in s.after)]
        together = [step for step in ready if not step.alone]
        if together or running:
            return together
        # What could still run beside others goes first: the rest is measured on a quiet machine.
        return [] if any(not step.alone for step in waiting) else ready[:1]

    def _start(self, step: Step) -> _Running:
        self.report(f"{step.name} …")
        with (
            self._file(step.name, "out").open("wb") as out,
            self._file(step.name, "err").open("wb") as err,
        ):
            process = subprocess.Popen(
                step.command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, process_group=0
            )
        return _Running(step, process, time.monotonic())

    def _ended(self, each: _Running) -> bool:
        code = each.process.poll()
        seconds = time.monotonic() - each.begin
        if code is None and time.monotonic() < self.deadline:
            return False
        state: State = "done" if code == 0 else "failed"
        if code is None:
            _end(each.process)
            state = "late"
        self._note(each.step, state, seconds, "" if code == 0 else self._last_words(each.step))
        return True

    def _left_out(self, step: Step) -> bool:
        """Whether a step cannot run any more: for want of others, or of time."""
        missing = [n for n in step.after if n in self.results and not self._is_done(n)]
        left = self.deadline - time.monotonic()
        if missing:
            self._note(step, "left out", 0, f"needs {missing[0]}, which is not done")
        elif step.seconds > left:
            text = f"takes about {step.seconds:.0f} s, and {max(left, 0):.0f} s are left"
            self._note(step, "left out", 0, text)
        return step.name in self.results

    def _known(self, step: Step) -> bool:
        """Whether an earlier run has done this very step."""
        try:
            found = json.loads(self._file(step.name, "json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        result = Result(**{**found, "command": tuple(found["command"])})
        if result.state != "done" or result.command != step.command:
            return False
        self.results[step.name] = result
        self.report(f"{step.name}: done before")
        return True

    def _note(self, step: Step, state: State, seconds: float, said: str) -> None:
        result = Result(step.name, step.command, state, seconds, said)
        self.results[step.name] = result
        self._file(step.name, "json").write_text(json.dumps(asdict(result)), encoding="utf-8")
        ending = f": {said.splitlines()[-1]}" if said else ""
        self.report(f"{step.name}: {state}, {seconds:.0f} s{ending}")

    def _is_done(self, name: str) -> bool:
        return name in self.results and self.results[name].state == "done"

    def _last_words(self, step: Step) -> str:
        text = self._file(step.name, "err").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.strip().splitlines()[-_LAST_LINES:])

    def _file(self, name: str, ending: str) -> Path:
        return self.folder / f"{name.replace(' ', '-')}.{ending}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
