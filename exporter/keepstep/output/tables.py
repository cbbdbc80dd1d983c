"""Tables and lines for people; everything shown here is also to be had as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from keepstep.exporter.check.verdict import CallVerdict, Verdict
from keepstep.exporter.schedule.schema import LETTER_OF, Repeat, Schedule
from keepstep.exporter.schedule.settings import OWN, Sampler
from keepstep.runtime.format.plan import Default
from keepstep.runtime.format.rules_values import range_text

from .terminal import printable, words

STYLES = {
    "F": "bold white on blue",
    "s": "black on cyan",
    "t": "black on green",
    ".": "bright_black",
}
LEGEND = "F full, s shallow, t kept tokens, . skipped"


def plan_panel(plan: Mapping[str, Any]) -> RenderableType:
    """A plan as `summary.describe` gives it."""
    counts = plan["steps"]
    lines = Table.grid(padding=(0, 2))
    lines.add_row("calls", timeline_text(plan["calls"]))
    lines.add_row("", Text(LEGEND, style="bright_black"))
    lines.add_row("kinds", ", ".join(f"{n} {kind}" for kind, n in counts.items() if n))
    lines.add_row("kept tokens", ", ".join(map(str, plan["kept"])) or "all")
    lines.add_row("network", f"{si(plan['loop_macs'])}MAC a run")
    for name, cache in plan["caches"].items():
        lines.add_row(
            "cache",
            f"{size(cache['bytes'])} of keys and values, {size(cache['written'])} of them written "
            f"in a call of {name}",
        )
    lines.add_row(
        "memory",
        f"{size(plan['weight_bytes'])} weights, {size(plan['table_bytes'])} tables, "
        f"{size(plan['arena_bytes'])} arena, {size(plan['alive_bytes'])} of it alive at once",
    )
    stages = Table(box=None, padding=(0, 2), header_style="bright_black")
    for heading in ("stage", "launches", "MAC a launch", "weights", "engines"):
        stages.add_column(heading, justify="left" if heading in ("stage", "engines") else "right")
    for name, stage in plan["stages"].items():
        stages.add_row(
            name,
            str(stage["launches"]),
            si(stage["macs"]),
            str(stage["weights"]),
            ", ".join(stage["engines"]),
        )
    values = Table(box=None, padding=(0, 1), header_style="bright_black")
    for heading in ("value", "", "dtype", "shape", ""):
        values.add_column(heading, overflow="fold")
    for role, label in (("inputs", "input"), ("feeds", "optional"), ("outputs", "output")):
        for name, tensor in plan[role].items():
            limits = [range_text(tensor["range"])] if "range" in tensor else []
            if "default" in tensor:
                limits.append(f"default {_default_text(tensor['default'])}")
            shape = str(tuple(tensor["shape"]))
            values.add_row(name, label, tensor["dtype"], shape, ", ".join(limits))
    title = words(plan["name"], "bold")
    return Panel(Group(lines, "", stages, "", values), title=title, title_align="left")


def timeline_text(calls: str) -> Text:
    """The calls of the sampler, coloured by kind; letters that no schedule has are plain."""
    text = Text()
    for letter in calls:
        text.append(printable(letter), style=STYLES.get(letter, ""))
    return text


def _default_text(default: Default) -> str:
    """A default as a plan writes it; of a long list the first numbers."""
    if not isinstance(default, tuple):
        return str(default).lower() if isinstance(default, bool) else f"{default:g}"
    known = ", ".join(map(_default_text, default[:8]))
    return f"[{known}{', …' if len(default) > 8 else ''}]"


def schedules_table(schedules: Sequence[Schedule]) -> RenderableType:
    """The built-in schedules and what each costs."""
    table = Table(box=None, padding=(0, 2, 1, 0), header_style="bright_black")
    table.add_column("name", vertical="top", no_wrap=True)
    table.add_column("calls, cost and source", vertical="top")
    for schedule in schedules:
        entry = schedule_entry(schedule)
        calls = timeline_text(entry["calls"])
        if isinstance(schedule.calls, Repeat):
            calls.append(" and so on")
        source = words(schedule.source, "bright_black")
        table.add_row(Text(schedule.name, style="bold"), Group(calls, Text(entry["cost"]), source))
    return table


def schedule_entry(schedule: Schedule) -> dict[str, Any]:
    """A schedule as data; `calls` is one period of it where a pattern is repeated."""
    repeats = isinstance(schedule.calls, Repeat)
    if isinstance(schedule.calls, Repeat):
        calls = schedule.calls.repeat.replace(" ", "")
    else:
        calls = "".join(LETTER_OF[call.kind] for call in schedule.calls)
    counts = {kind: calls.count(letter) for kind, letter in LETTER_OF.items()}
    kinds = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)
    of = f"of every {len(calls)} calls" if repeats else f"of {len(calls)} calls"
    cost = "every call full" if set(calls) == {"F"} else f"{kinds} {of}"
    sampler = _sampler(schedule.sampler)
    prune = schedule.prune
    keep = schedule.keep
    pruning = f"; {prune.method} prunes {prune.ratio:.0%} of the top-level tokens" if prune else ""
    if keep:
        pruning += f"; {keep.scorer} keeps {keep.ratio:.0%} of the tokens in calls of that kind"
    return {
        "name": schedule.name,
        "source": schedule.source,
        "sampler": sampler,
        "calls": calls,
        "repeats": repeats,
        "kinds": counts,
        "cost": f"{cost} ({sampler}){_ran_again(schedule)}{pruning}",
    }


def _ran_again(schedule: Schedule) -> str:
    """Which of a transformer's blocks shallow calls run."""
    if schedule.cache is None or schedule.cache.blocks is None:
        return ""
    ends = zip(("first", "last"), schedule.cache.blocks, strict=True)
    ran = [f"the {end} {n if n > 1 else 'one'}" for end, n in ends if n]
    return f"; shallow ones run {' and '.join(ran) or 'none'} of a transformer's blocks"


def _sampler(sampler: Sampler) -> str:
    """What a schedule samples with."""
    own = sampler.scheduler == OWN
    if own and not sampler.steps:
        return "the checkpoint's own sampler"
    scheduler = "the checkpoint's own scheduler" if own else sampler.scheduler
    return f"{scheduler}, {sampler.steps or 'the usual'} steps"


def verdict_entry(verdict: Verdict, repaired_by: Sequence[str] | None) -> dict[str, object]:
    """A verdict, ready for JSON."""
    return {
        "plan": verdict.plan,
        "backend": verdict.backend,
        "good": verdict.good,
        "sentence": verdict.sentence,
        "stages": [asdict(stage) for stage in verdict.stages],
        "calls": [asdict(call) for call in verdict.calls],
        "run": verdict.run and asdict(verdict.run),
        "repaired_by": repaired_by,
    }


def verdict_table(verdicts: Sequence[Verdict]) -> RenderableType:
    """What `keepstep verify` found: the worst call of every stage, then the whole run.

    Below the table, every mismatch in words: of a wrong selection no number says it.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black")
    for heading in ("plan", "backend", "what", "relative error", "at most", "", "worst tensor"):
        table.add_column(heading, no_wrap=True)
    table.add_column("ties", no_wrap=True)
    for verdict in verdicts:
        first = (verdict.plan, verdict.backend)
        for stage in verdict.stages:
            ties = tokens_decided(c for c in verdict.calls if c.stage == stage.stage)
            numbers = _against(stage.error, stage.tolerance, stage.good)
            table.add_row(*first, stage.stage, *numbers, _ending(stage.tensor, 28), ties)
            first = ("", "")
        if run := verdict.run:
            numbers = _against(run.replayed, run.replayed_tolerance)
            table.add_row(*first, "played at once", *numbers, "beside its calls one by one", "")
            what = "latents" if run.tolerance else "not judged: it hangs on ties"
            table.add_row("", "", "the whole run", *_against(run.error, run.tolerance), what, "")
    mismatches = [words(verdict.sentence) for verdict in verdicts if not verdict.good]
    return Group(table, "", *mismatches) if mismatches else table


def tokens_decided(calls: Iterable[CallVerdict]) -> str:
    """How many tokens rounding decided otherwise than in the eager run; empty for none."""
    seen = [*calls]
    undecided = sum(call.undecided for call in seen if not call.fault)
    return f"{undecided} of {sum(call.tokens for call in seen)}" if undecided else ""


def _against(
    error: float, most: float | None, good: bool | None = None
) -> tuple[str, str, RenderableType]:
    """An error, what it may be at most, and whether that is so; nothing where it is not judged."""
    if most is None:
        return f"{error:.1e}", "", ""
    good = error <= most if good is None else good
    mark = Text("good", "green") if good else Text("mismatch", "red")
    return f"{error:.1e}", f"{most:g}", mark


def _ending(name: str, length: int) -> str:
    """The end of a long name: that is what tells it from others."""
    return name if len(name) <= length else f"…{name[1 - length :]}"


def print_json(console: Console, data: object) -> None:
    """JSON, unstyled and unwrapped, so that it can be piped; null for NaN and infinity."""
    import json

    console.print(json.dumps(_finite(data), indent=1, allow_nan=False), soft_wrap=True)


def _finite(data: object) -> object:
    """`data` as JSON can say it."""
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not isfinite(data) else data


def size(n: int) -> str:
    """Bytes as a person reads them."""
    if n >= 1e9:
        return f"{n / 1e9:.2f} GB"
    return f"{n / 1e6:.1f} MB" if n >= 1e6 else f"{n / 1e3:.0f} kB"


def si(n: int) -> str:
    """A count with its unit's prefix: 5.1 G, 6.6 M."""
    for unit, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= factor:
            return f"{n / factor:.1f} {unit}"
    return f"{n} "
