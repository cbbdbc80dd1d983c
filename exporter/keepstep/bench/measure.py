"""Configurations take turns, round after round: noise on the machine affects all of them alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from keepstep.exporter.work import Progress

from .configurations import Configuration, Run


@dataclass(frozen=True)
class Spread:
    """What was measured several times: seconds."""

    median: float
    fastest: float
    slowest: float

    @staticmethod
    def of(seconds: Iterable[float]) -> Spread:
        """Of at least one time."""
        known = list(seconds)
        return Spread(median(known), min(known), max(known))


@dataclass(frozen=True)
class Measured:
    """A configuration and its runs; at least one."""

    configuration: Configuration
    runs: Sequence[Run]

    @cached_property
    def seconds(self) -> Spread:
        """Of a whole picture."""
        return Spread.of(run.seconds for run in self.runs)

    @cached_property
    def loop_seconds(self) -> Spread:
        """Of a whole picture less text, prompt, encode and decode."""
        return Spread.of(_loop(run) for run in self.runs)

    @cached_property
    def call_seconds(self) -> Mapping[str, Spread]:
        """Of one call of each label, over all rounds."""
        seconds: dict[str, list[float]] = defaultdict(list)
        for run in self.runs:
            for kind, s in run.calls:
                seconds[kind].append(s)
        return {kind: Spread.of(times) for kind, times in seconds.items()}

    @cached_property
    def timeline(self) -> tuple[tuple[str, float], ...]:
        """Every call in order: its label, and the median of its seconds."""
        rounds = zip(*(run.calls for run in self.runs), strict=True)
        return tuple((calls[0][0], median(s for _, s in calls)) for calls in rounds)


def measure(
    configurations: Sequence[Configuration], report: Progress, rounds: str = "round"
) -> list[Measured]:
    """Run every configuration once to warm up, then all in turn.

    Those that take part in no round are left out.

    `rounds` is what a round is called where progress is told.
    """
    taking_part = [configuration for configuration in configurations if configuration.rounds]
    total = sum(configuration.rounds + 1 for configuration in taking_part)
    runs: dict[int, list[Run]] = defaultdict(list)
    done = 0
    for configuration in taking_part:
        report(f"warm up: {configuration.label}, {configuration.how}", done, total)
        configuration.run()
        done += 1
    for turn in range(max((configuration.rounds for configuration in taking_part), default=0)):
        for i, configuration in enumerate(taking_part):
            if turn < configuration.rounds:
                report(
                    f"{rounds} {turn + 1}: {configuration.label}, {configuration.how}", done, total
                )
                runs[i].append(configuration.run())
                done += 1
    return [Measured(configuration, runs[i]) for i, configuration in enumerate(taking_part)]


def _loop(run: Run) -> float:
    return run.seconds - sum(s for kind, s in run.calls if kind not in run.loop)
