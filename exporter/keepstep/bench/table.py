"""The benchmark as tables for people: speed beside likeness first, then what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from keepstep.output.tables import size
from keepstep.output.terminal import words

from .equal_latency import Comparison
from .measure import Spread
from .report import Report
from .rows import Row

SPEED = (
    "s/image",
    "spread",
    "full",
    "shallow",
    "tokens",
    "schedule",
    "compiling",
    "total",
    "PSNR",
    "SSIM",
)
COST = (
    "launches",
    "loop s",
    "GMAC",
    "ideal s",
    "÷ ideal",
    "host",
    "memory",
    "GPU",
    "golden",
)
LEGEND = (
    "schedule: faster than full, run the same way. compiling: faster than eager, of the same "
    "schedule.\ntotal: faster than full, eager. PSNR and SSIM: against the picture of the "
    "compiled full plan."
)
LEGEND_OF_COST = (
    "host: the most while a picture is drawn. memory: of a plan that is ready, and of two, "
    "without mapped files."
)


def bench_tables(report: Report) -> RenderableType:
    """Every row, and what was found at equal latency."""
    parts: list[RenderableType] = [
        words(title(report), "bold"),
        "",
        _table(report, SPEED, speed_cells),
        Text(LEGEND, style="bright_black"),
        "",
        _table(report, COST, cost_cells),
        Text(LEGEND_OF_COST, style="bright_black"),
    ]
    for found in report.equal_latency:
        parts += ["", words(f"{found.plan} or plain steps in the same time?", "bold")]
        parts += [_comparison(found), words(found.sentence)]
    parts += [words(note, "bright_black") for note in report.notes]
    return Group(*parts)


def title(report: Report) -> str:
    """The bundle in a line."""
    batch, height, width = report.picture
    pictures = f"{batch} pictures of " if batch > 1 else ""
    return (
        f"{report.bundle.get('name', 'a bundle')}, {report.bundle.get('dtype', '')}, "
        f"{pictures}{height} × {width}: {size(report.bundle_bytes)} on disk"
    )


def speed_cells(row: Row) -> list[str]:
    """Times, gains and likeness, as text."""
    gains = row.gains
    return [
        seconds_text(row.seconds.median),
        spread_text(row.seconds),
        *(milliseconds_text(row.call_seconds.get(kind)) for kind in ("full", "shallow", "tokens")),
        *(gain_text(gain) for gain in (gains.schedule, gains.compiling, gains.total)),
        psnr_text(row.psnr),
        f"{row.ssim:.3f}",
    ]


def cost_cells(row: Row) -> list[str]:
    """Launches, operations, memory and error, as text; nothing where it is not known."""
    return [
        "" if row.launches is None else str(row.launches),
        seconds_text(row.loop_seconds.median),
        f"{row.loop_macs / 1e9:.1f}",
        seconds_text(row.ideal_seconds),
        f"{row.measured_over_ideal:.2f}",
        size(row.peak_bytes) if row.peak_bytes else "",
        "" if row.memory is None else f"{size(row.memory.one)}, {size(row.memory.two)}",
        size(row.device_bytes) if row.device_bytes else "",
        "" if row.golden_error is None else f"{row.golden_error:.0e}",
    ]


def seconds_text(seconds: float) -> str:
    """Three digits, also where a picture takes milliseconds."""
    return f"{seconds:.2f}" if seconds >= 1 else f"{seconds:.3f}"


def spread_text(seconds: Spread) -> str:
    """From the fastest to the slowest, in as many digits as the median."""
    digits = 2 if seconds.median >= 1 else 3
    return f"{seconds.fastest:.{digits}f}–{seconds.slowest:.{digits}f}"


def milliseconds_text(seconds: Spread | None) -> str:
    """The median; nothing where there was no such call."""
    return "" if seconds is None else f"{1e3 * seconds.median:.1f} ms"


def gain_text(gain: float | None) -> str:
    """How many times faster."""
    return "" if gain is None else f"{gain:.2f}×"


def psnr_text(psnr: float | None) -> str:
    """In dB, or that the pictures are the same."""
    return "same" if psnr is None else f"{psnr:.1f} dB"


def _comparison(found: Comparison) -> Table:
    """The schedule above plain sampling."""
    table = Table(box=None, padding=(0, 1), show_header=False)
    justify: Literal["left", "right"]
    for justify in ("left", "left", "right", "right", "right"):
        table.add_column(justify=justify, no_wrap=True)
    for plan, seconds, psnr, ssim in (
        (found.plan, found.seconds, found.psnr, found.ssim),
        (found.plain, found.plain_seconds, found.plain_psnr, found.plain_ssim),
    ):
        table.add_row(
            plan, found.how, f"{seconds_text(seconds)} s", psnr_text(psnr), f"SSIM {ssim:.3f}"
        )
    return table


def _table(report: Report, headings: Sequence[str], cells: Callable[[Row], Sequence[str]]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bright_black", collapse_padding=True)
    for heading in ("plan", "how"):
        table.add_column(heading, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.rows:
        table.add_row(row.plan, row.how, *cells(row))
    return table
