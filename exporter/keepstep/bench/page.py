"""The report as one HTML file that needs no network and no script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files

import numpy as np

from keepstep.output.tables import size

from .drawing import axis, longest, png, timeline
from .equal_latency import Comparison
from .report import Report
from .rows import Row
from .table import COST, LEGEND, SPEED, cost_cells, gain_text, psnr_text, seconds_text, speed_cells

LEGEND_OF_CALLS = {
    "full": "full",
    "shallow": "shallow",
    "tokens": "kept tokens",
    "skip": "skipped",
    "other": "text, prompt, decode",
    "whole": "the whole picture, as it is played",
}
Images = Mapping[tuple[str, str], np.ndarray]  # by plan and by how it was run


def page(report: Report) -> str:
    """The whole file."""
    images = {
        (row.plan, row.how): image for row, image in zip(report.rows, report.pictures, strict=True)
    }
    name = escape(report.bundle.get("name", "a bundle"))
    style = (files(__package__) / "page.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{name}: keepstep bench</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            "<main>",
            _header(report, name),
            *_gains(report),
            *_timelines(report, images),
            *_same_time(report, images),
            *_numbers(report),
            *_conditions(report),
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _header(report: Report, name: str) -> str:
    machine, (batch, height, width) = report.machine, report.picture
    place = machine["gpu"] or f"{machine['processor']}, {machine['cores']} cores"
    pictures = f"{batch} pictures of " if batch > 1 else ""
    return (
        f'<header><p class="eyebrow">keepstep bench</p><h1>{name}</h1>'
        f'<p class="lead">on {escape(str(place))}</p>'
        f"<p>“{escape(report.setting.prompt)}”, {pictures}{height} × {width} pixels, "
        f"{escape(report.bundle.get('dtype', ''))}; a bundle of {size(report.bundle_bytes)}. "
        f"Medians of {_counted(report.setting.repeats, 'round')}.</p></header>"
    )


def _gains(report: Report) -> Iterator[str]:
    """What the schedule gives × what compiling gives, for every compiled plan but the full one."""
    plain = {found.plain for found in report.equal_latency}
    cards = [
        _gain(report, row)
        for row in report.rows
        if row.launches and row.plan != report.baseline and row.plan not in plain
    ]
    if cards:
        yield '<section class="gains">'
        yield from cards
        yield "</section>"


def _gain(report: Report, row: Row) -> str:
    """Eager full → eager schedule → compiled schedule; without eager runs, the schedule alone."""
    full = report.row(report.baseline, row.how)
    eager_full = report.row(report.baseline, "eager")
    eager = report.row(row.plan, "eager")
    assert full
    if eager and eager_full:
        figures = [
            _figure("", eager.gains.schedule, "the schedule", eager_full, eager),
            _figure("×", row.gains.compiling, "compiling", eager, row),
            _figure("=", row.gains.total, "in all", eager_full, row),
        ]
    else:
        figures = [_figure("=", row.gains.schedule, "the schedule", full, row)]
    return (
        f'<article><h2>{escape(row.plan)} <span class="how">{escape(row.how)}</span></h2>'
        f'<div class="equation">{"".join(figures)}</div>'
        f"<p>Its picture against that of the full plan: {psnr_text(row.psnr)}, "
        f"SSIM {row.ssim:.3f}.</p></article>"
    )


def _figure(sign: str, gain: float | None, what: str, slow: Row, fast: Row) -> str:
    """A factor, or the product behind the = sign, and the times that it comes from."""
    result = sign == "="
    factor = gain_text(gain) if result else gain_text(gain).removesuffix("×")
    times = f"{seconds_text(slow.seconds.median)} → {seconds_text(fast.seconds.median)} s"
    return (
        f'<div class="term"><span class="sign">{sign}</span>'
        f'<div class="figure{" result" if result else ""}"><b>{factor}</b>'
        f"<span>{what}</span><small>{times}</small></div></div>"
    )


def _timelines(report: Report, images: Images) -> Iterator[str]:
    span = longest(report.rows)
    yield "<section><h2>Every call, in order</h2>"
    items = (f'<span><i class="{kind}"></i>{text}</span>' for kind, text in LEGEND_OF_CALLS.items())
    yield f'<p class="legend">{"".join(items)}</p>'
    if report.machine["gpu"]:
        yield (
            "<p>On a GPU the calls of a plan are launched as one; to be measured they are launched "
            "one by one, which takes longer than the whole.</p>"
        )
    yield '<div class="strips">'
    for row in report.rows:
        yield (
            f'<figure><img src="{png(images[row.plan, row.how])}" alt="{_alt(report, row)}">'
            f"<figcaption>{psnr_text(row.psnr)}</figcaption></figure>"
            f"<div><h3>{_named(row)}<span>{seconds_text(row.seconds.median)} s</span></h3>"
            f"{timeline(row, span)}</div>"
        )
    yield f"<div></div><div>{axis(span)}</div></div></section>"


def _same_time(report: Report, images: Images) -> Iterator[str]:
    if not report.equal_latency:
        return
    yield "<section><h2>Or plain sampling with fewer steps, in the same time?</h2>"
    yield (
        "<p>Every call full, the same sampler, seed and prompt, with as many steps as fit the "
        "time of the schedule; measured in turns with it, in rounds after the others.</p>"
    )
    for found in report.equal_latency:
        yield _comparison(report, found, images)
    yield "</section>"


def _comparison(report: Report, found: Comparison, images: Images) -> str:
    seconds = {found.plan: found.seconds, found.plain: found.plain_seconds}
    rows = [report.row(plan, found.how) for plan in (*seconds, report.baseline)]
    figures = "".join(
        f'<figure><img src="{png(images[row.plan, row.how])}" alt="{_alt(report, row)}">'
        f"<figcaption><b>{escape(row.plan)}</b>"
        f"<span>{seconds_text(seconds.get(row.plan, row.seconds.median))} s</span>"
        f"<span>{psnr_text(row.psnr)}</span><span>SSIM {row.ssim:.3f}</span></figcaption></figure>"
        for row in rows
        if row
    )
    return (
        f'<article class="versus"><h3>{escape(found.plan)}<span>{escape(found.how)}</span></h3>'
        f'<div class="pictures">{figures}</div><p>{escape(found.sentence)}.</p></article>'
    )


def _numbers(report: Report) -> Iterator[str]:
    yield "<section><h2>All numbers</h2>"
    yield _table(("plan", "how", *SPEED), [[r.plan, r.how, *speed_cells(r)] for r in report.rows])
    yield f"<p>{escape(LEGEND)}</p>"
    yield _table(("plan", "how", *COST), [[r.plan, r.how, *cost_cells(r)] for r in report.rows])
    yield (
        "<p>GMAC: multiply–accumulate operations of the loop. Ideal: the full plan’s loop, run "
        "the same way, times the share of its operations that the schedule leaves. Host: the most "
        "of memory while a picture is drawn. Memory: of a plan that is ready, and of two, without "
        "mapped files. Golden: how far latents are from those of the recorded eager run.</p>"
        "</section>"
    )


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines
    )
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _conditions(report: Report) -> Iterator[str]:
    machine, setting = report.machine, report.setting
    memory, eager = machine["memory_bytes"], report.eager
    facts = {
        "processor": f"{machine['processor']}, {machine['cores']} cores",
        "memory": size(memory) if memory else "",
        "GPU": machine["gpu"] or "none",
        "driver": machine["driver"] or "",
        "load before": "" if machine["load"] is None else f"{machine['load']:.2f}",
        "eager runs": f"{eager.device}, {eager.dtype}" if eager else "none",
        "guidance, seed": f"{setting.guidance_scale:g}, {setting.seed}",
        "threads": str(setting.threads or "as the backend chooses"),
        "rounds": f"{setting.repeats}, of PyTorch {setting.rounds_of_eager}",
        "system": f"{machine['system']}, Python {machine['python']}",
        "packages": ", ".join(f"{name} {v}" for name, v in machine["packages"].items()),
    }
    yield "<section><h2>Conditions</h2><dl>"
    yield "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in facts.items() if v)
    yield "</dl>"
    yield "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    yield "</section>"


def _named(row: Row) -> str:
    return f"{escape(row.plan)} <small>{escape(row.how)}</small>"


def _alt(report: Report, row: Row) -> str:
    return escape(f"“{report.setting.prompt}” by {row.plan}, {row.how}")


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
