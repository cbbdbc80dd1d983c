"""`keepstep cache`: what the exporter has kept, and how to make it less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from keepstep.output.terminal import out, say

if TYPE_CHECKING:
    from keepstep.exporter.store.cache import Use

app = typer.Typer(no_args_is_help=True, help="Look at finished work that exports keep, or drop it.")
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@app.command("list")
def list_entries(json: JsonOption = False) -> None:
    """List what exports have kept, the last used first.

    keepstep cache list

    KEEPSTEP_CACHE=/data/cache keepstep cache list --json
    """
    from keepstep.exporter.store.cache import Cache
    from keepstep.output import tables

    cache = Cache.default()
    entries, total = [_described(use) for use in cache.entries()], cache.total_bytes()
    if json:
        tables.print_json(out, {"folder": str(cache.folder), "bytes": total, "entries": entries})
        return
    if entries:
        out.print(_table(entries))
    say(f"{cache.folder}: {_counted(len(entries))}, {tables.size(total)}")


@app.command()
def prune(
    older_than: Annotated[
        int | None,
        typer.Option(
            min=0, max=36500, metavar="DAYS", help="Drop what was not used for so long. [30]"
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Drop every entry.")] = False,
    json: JsonOption = False,
) -> None:
    """Drop what was not used for a while; what is asked for again is then built again.

    keepstep cache prune --older-than 7

    keepstep cache prune --all
    """
    from keepstep.exporter.errors import ExportError
    from keepstep.exporter.store.cache import Cache
    from keepstep.output import tables

    if everything and older_than is not None:
        raise ExportError("--all drops every entry, --older-than some: give one of them")
    days = 30 if older_than is None else older_than
    pruned = Cache.default().prune(None if everything else timedelta(days=days))
    if json:
        tables.print_json(out, vars(pruned))
        return
    linked = f"; {tables.size(pruned.linked)} more are still part of bundles" * bool(pruned.linked)
    say(f"{_counted(pruned.entries)} dropped, {tables.size(pruned.freed)} freed{linked}")


def _described(use: Use) -> dict[str, Any]:
    entry = use.entry
    return {
        "kind": entry.kind,
        "key": entry.key,
        "about": dict(entry.about),
        "bytes": entry.bytes,
        "last_used": use.last.isoformat(timespec="seconds"),
    }


def _table(entries: Sequence[Mapping[str, Any]]) -> Table:
    from keepstep.output.tables import size

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black")
    for heading in ("kind", "what", "size", "last used"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    for entry in entries:
        what = ", ".join(f"{name} {text}" for name, text in entry["about"].items())
        last = datetime.fromisoformat(entry["last_used"]).astimezone()
        table.add_row(entry["kind"], what, size(entry["bytes"]), f"{last:%Y-%m-%d %H:%M}")
    return table


def _counted(entries: int) -> str:
    return "1 entry" if entries == 1 else f"{entries} entries"
