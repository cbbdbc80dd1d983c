"""The parts of the page that are drawn: timelines as SVG, pictures as PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from .rows import Row

HEIGHT = 22  # of a bar, pixels
GAP = 0.12  # of a call's width, so that calls can be told apart
WIDEST = 512  # pixels of an embedded picture: larger ones are shrunk
TICKS = 8  # at most, on the axis
CLASSES = {kind: kind for kind in ("full", "shallow", "tokens", "skip")}


def longest(rows: Sequence[Row]) -> float:
    """Seconds that the common time axis spans."""
    return max(max(row.seconds.median, _sum(row)) for row in rows)


def timeline(row: Row, span: float) -> str:
    """The calls of a run as bars from left to right, `span` seconds wide.

    The line beneath is the whole run. On a GPU it is shorter than its calls, which are launched
    one by one to be measured.
    """
    bars, start = [], 0.0
    for i, (kind, seconds) in enumerate(row.timeline):
        width = 100 * seconds / span
        bars.append(
            f'<rect class="{CLASSES.get(kind, "other")}" x="{100 * start / span:.3f}%" '
            f'width="{width * (1 - GAP):.3f}%" height="{HEIGHT}">'
            f"<title>{i + 1}: {escape(kind)}, {1e3 * seconds:.2f} ms</title></rect>"
        )
        start += seconds
    whole = 100 * row.seconds.median / span
    label = escape(f"{row.plan}, {row.how}: {len(row.timeline)} calls, {row.seconds.median:.3g} s")
    return (
        f'<svg class="timeline" role="img" aria-label="{label}" height="{HEIGHT + 6}">'
        f'{"".join(bars)}<rect class="whole" y="{HEIGHT + 3}" width="{whole:.3f}%" height="2"/>'
        "</svg>"
    )


def axis(span: float) -> str:
    """The seconds of all timelines, which are `span` wide."""
    step = _step(span)
    marks = []
    for i in range(int(span / step) + 1):
        x = 100 * i * step / span
        anchor = "start" if not i else "end" if x > 97 else "middle"
        unit = " s" if not i else ""
        marks.append(
            f'<line x1="{x:.3f}%" x2="{x:.3f}%" y2="5"/>'
            f'<text x="{x:.3f}%" y="18" text-anchor="{anchor}">{i * step:g}{unit}</text>'
        )
    return f'<svg class="axis" aria-hidden="true" height="22">{"".join(marks)}</svg>'


def png(image: np.ndarray) -> str:
    """A batch of pictures, uint8 (B, H, W, 3), side by side as the address of an <img>."""
    sheet = Image.fromarray(np.concatenate(list(image), axis=1))
    if sheet.width > WIDEST:
        height = round(sheet.height * WIDEST / sheet.width)
        sheet = sheet.resize((WIDEST, height), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    sheet.save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten, so that there are few marks."""
    power: float = 10.0 ** np.floor(np.log10(span / TICKS))
    return next(f * power for f in (1, 2, 5, 10) if span / (f * power) <= TICKS)


def _sum(row: Row) -> float:
    return sum(seconds for _, seconds in row.timeline)
