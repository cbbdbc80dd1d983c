"""The time of a run as a table: the calls of every stage, and the whole."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from keepstep.playing.times import Times

from .terminal import words


def times_table(times: Times) -> RenderableType:
    """One row for the calls of a stage and label, as `keepstep-run` prints them."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black")
    for heading in ("stage", "label", "calls", "total", "mean", "share"):
        left = heading in ("stage", "label")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for group in times.groups:
        table.add_row(
            words(group.stage),
            words(group.label or ""),
            str(group.calls),
            duration(group.seconds),
            duration(group.seconds / group.calls),
            f"{times.share(group):.0%}",
        )
    whole = Text("the whole run", style="bold")
    table.add_row(whole, "", str(len(times.calls)), duration(times.seconds))
    return table


def duration(seconds: float) -> str:
    """Seconds with a fitting unit: 1.20 s, 3.4 ms, 5.6 µs."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1e3 * seconds:.1f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.1f} µs"
