"""Where the time of a run goes: calls by stage and label, as `keepstep-run` groups them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from keepstep.runtime import Plan
from keepstep.runtime.player.player import CallTime, Profile


@dataclass(frozen=True)
class Group:
    """The calls of one stage in steps of one label."""

    stage: str
    label: str | None  # such as "full"; None outside of the sampler's steps
    calls: int
    seconds: float  # of all of them in one run


@dataclass(frozen=True)
class Times:
    """One run, or the medians of several."""

    runs: int
    seconds: float  # of the whole run
    groups: tuple[Group, ...]  # in the order of their first call
    calls: tuple[CallTime, ...]  # every call that was launched, in order

    def share(self, group: Group) -> float:
        """The part of all calls' time that a group takes, 0 to 1."""
        together = sum(each.seconds for each in self.groups)
        return group.seconds / together if together else 0.0


def times_of(plan: Plan, profiles: Sequence[Profile]) -> Times:
    """The times of runs of one plan, all of the same calls; there is at least one run.

    Of several runs every number is a median by itself, so medians of groups need not add up.
    """
    runs = [_grouped(plan, profile) for profile in profiles]
    groups = tuple(
        Group(*key, len(first), median(sum(run[key]) for run in runs))
        for key, first in runs[0].items()
    )
    calls = tuple(
        CallTime(each[0].index, each[0].call, median(call.seconds for call in each))
        for each in zip(*(profile.calls for profile in profiles), strict=True)
    )
    return Times(len(profiles), median(profile.seconds for profile in profiles), groups, calls)


def describe_times(
    plan: Plan, backend: str, times: Times, written: Sequence[str]
) -> dict[str, Any]:
    """What `keepstep-run --json` gives, and beside it `each`: call by call. Seconds throughout."""
    return {
        "plan": plan.name,
        "backend": backend,
        "runs": times.runs,
        "seconds": times.seconds,
        "calls": [
            {
                "stage": group.stage,
                "label": group.label,
                "calls": group.calls,
                "seconds": group.seconds,
                "mean_seconds": group.seconds / group.calls,
                "share": times.share(group),
            }
            for group in times.groups
        ],
        "each": [
            {
                "call": each.index,
                "stage": each.call.stage,
                "label": _label(plan, each),
                "seconds": each.seconds,
            }
            for each in times.calls
        ],
        "written": list(written),
        "note": None,  # what a C++ player has to tell; in Python that is a warning
    }


def _grouped(plan: Plan, profile: Profile) -> dict[tuple[str, str | None], list[float]]:
    """Stage and label → seconds of each of their calls."""
    found: dict[tuple[str, str | None], list[float]] = {}
    for each in profile.calls:
        found.setdefault((each.call.stage, _label(plan, each)), []).append(each.seconds)
    return found


def _label(plan: Plan, each: CallTime) -> str | None:
    return None if each.call.step is None else plan.steps[each.call.step].label
