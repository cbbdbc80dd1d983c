"""What an export has to do, as a list, so that its progress can be told and its end estimated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Progress = Callable[[str, int, int], None]  # what is being done, how much is done, of how much


@dataclass(frozen=True)
class Task:
    """Something to do; costs are relative to each other and only as good as an estimate is."""

    what: str
    cost: int


class Work:
    """Tasks that are done in order; what follows the last one is told as it comes."""

    def __init__(self, tasks: Sequence[Task], report: Progress) -> None:
        self._tasks = list(tasks)
        self._report = report
        self._total = sum(task.cost for task in tasks)
        self._next = 0
        self._done = 0

    def start(self, what: str) -> None:
        """The task `what` begins: all before it are done."""
        while self._next < len(self._tasks) and self._tasks[self._next].what != what:
            self._done += self._tasks[self._next].cost
            self._next += 1
        assert self._next < len(self._tasks), f"{what} is no task, or is out of order"
        self._report(what, self._done, self._total)

    def within(self, done: int, total: int) -> None:
        """How far the current task is."""
        task = self._tasks[self._next]
        self._report(task.what, self._done + task.cost * done // max(total, 1), self._total)
