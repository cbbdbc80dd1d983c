"""`keepstep bench`: what a schedule gives and what compiling gives, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keepstep.output.progress import progress
from keepstep.output.terminal import out, say, wide


def bench(
    bundle: Annotated[Path, typer.Argument(help="A bundle made by `keepstep export`.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="The exported model's folder: adds PyTorch, and fewer plain steps in the same "
            "time."
        ),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="What plays the engines; repeat.", show_default="all that can here"),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds over all rows.")] = 5,
    prompt: Annotated[str, typer.Option(help="What is drawn.")] = "a red apple",
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="CPU threads; all cores if not given.")
    ] = None,
    eager: Annotated[
        bool, typer.Option(help="Run every schedule by PyTorch, too; needs --model.")
    ] = True,
    peaks: Annotated[bool, typer.Option(help="Measure memory, in processes of its own.")] = True,
    torch_compile: Annotated[
        bool, typer.Option(help="On a GPU, add what torch.compile makes of the full plan.")
    ] = True,
    equal_latency: Annotated[
        bool, typer.Option(help="Compare with fewer plain steps in the same time; needs --model.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page with timelines and pictures.")
    ] = None,
) -> None:
    """Time every plan on this machine, with the picture's quality beside it.

    With --model every schedule is also run by PyTorch, so that what the schedule gives and what
    compiling gives are told apart; and every schedule is compared with fewer plain steps in the
    same time.

    keepstep bench engines/emoji --model models/emoji

    keepstep bench engines/emoji --model models/emoji --html bench.html

    keepstep bench engines/sd15 --backend tensorrt-rtx --repeats 20 --no-peaks --json
    """
    from keepstep.bench import Setting, benchmark
    from keepstep.output import tables
    from keepstep.output.result_file import check_file_target, write_beside
    from keepstep.runtime import Bundle

    if html is not None:
        check_file_target(html, ".html")
    opened = Bundle.open(bundle)
    setting = Setting(
        prompt=prompt,
        repeats=repeats,
        eager_repeats=None if eager else 0,
        threads=threads,
        peaks=peaks,
        torch_compile=torch_compile,
        equal_latency=equal_latency,
    )
    with progress() as report:
        measured = benchmark(opened, setting, model, backend or (), report)
    if html is not None:
        from keepstep.bench.page import page

        text = page(measured)
        write_beside(html, lambda part: part.write_text(text, encoding="utf-8"))
    if json:
        tables.print_json(out, measured.data())
        return
    from keepstep.bench.table import bench_tables

    wide().print(bench_tables(measured))
    if html is not None:
        say(f"{html}: written")
