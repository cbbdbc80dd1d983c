"""The command `keepstep`: thin over the API. Every table is also to be had with --json."""

from __future__ import annotations

import errno
import signal
import sys
import warnings
from importlib.util import find_spec
from typing import Annotated, Any, NoReturn, cast

import typer

from keepstep.output.ending import check_output, drop_output, orderly
from keepstep.output.progress import progress
from keepstep.output.terminal import complain, out, say, wide
from keepstep.runtime import __version__
from keepstep.runtime.errors import KeepstepError

from . import bench as cli_bench
from . import cache as cli_cache
from . import debug as cli_debug
from . import export as cli_export
from . import run as cli_run
from .options import BackendOption, BundleArgument, JsonOption, PlanOption, open_bundle

app = typer.Typer(
    name="keepstep",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # our own faults keep their plain traceback
)
app.command()(cli_export.export)
app.command()(cli_run.run)
app.command()(cli_bench.bench)
app.add_typer(cli_cache.app, name="cache")
app.add_typer(cli_debug.app, name="debug")
INTERRUPTED = 130  # what typer gives for an interrupt
# What typer raises for a bad command line: newer versions have their own copy of click's class.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_EXPORT_ONLY = {"diffusers", "onnx", "onnx_ir", "onnxscript", "pydantic", "torch", "torchmetrics"}
_EXPORT_ONLY |= {"scipy", "transformers", "yaml"}


def _version(asked: bool) -> None:
    if asked:
        say(f"keepstep {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", help="Say the version.", is_eager=True, callback=_version)
]


@app.callback()
def keepstep(version: VersionOption = False) -> None:
    """Compile diffusion models with fixed pruning and caching schedules, and play them."""


@app.command()
def verify(
    bundle: BundleArgument,
    plan: PlanOption = None,
    backend: BackendOption = "onnxruntime",
    json: JsonOption = False,
) -> None:
    """Compare every stage, and the whole run, with golden values; exit code 1 on a mismatch.

    keepstep verify engines/emoji
    """
    from keepstep.exporter.check.verify import verify as check
    from keepstep.output import tables

    opened, name = open_bundle(bundle, plan)
    names = [name] if plan else opened.plans
    repairs: dict[str, tuple[str, ...] | None] = {}
    with progress() as report:
        verdicts = []
        for i, each in enumerate(names):
            report(each, i, len(names))
            verdicts.append(check(opened, each, backend))
            if not verdicts[-1].good and find_spec("onnx_ir"):  # comes with keepstep[export]
                from keepstep.exporter.check.precision_fallback import precision_fallback

                report(f"{each}: look for a precision fallback", i, len(names))
                repairs[each] = precision_fallback(opened, verdicts[-1])
    if json:
        tables.print_json(out, [tables.verdict_entry(v, repairs.get(v.plan)) for v in verdicts])
    else:
        wide().print(tables.verdict_table(verdicts))
        for plan_name, kinds in repairs.items():
            if kinds:
                options = " ".join(f"--float32 {kind}" for kind in kinds)
                say(f"{plan_name}: repaired by exporting with {options}")
    if not all(verdict.good for verdict in verdicts):
        raise typer.Exit(1)


@app.command()
def inspect(bundle: BundleArgument, plan: PlanOption = None, json: JsonOption = False) -> None:
    """Show plans as a person reads them: calls, kept tokens, memory, MACs, launches.

    keepstep inspect engines/emoji --plan dato-coco
    """
    from keepstep.output import tables
    from keepstep.playing.summary import describe

    opened, name = open_bundle(bundle, plan)
    described = [describe(opened.plan(each)) for each in ([name] if plan else opened.plans)]
    if json:
        tables.print_json(out, {"model": dict(opened.manifest.model), "plans": described})
        return
    for entry in described:
        out.print(tables.plan_panel(entry))


@app.command()
def schedules(json: JsonOption = False) -> None:
    """List the built-in schedules and what each costs.

    keepstep schedules --json
    """
    from keepstep.exporter.schedule.schema import Schedule, builtin_names
    from keepstep.output import tables

    known = [Schedule.load(name) for name in builtin_names()]
    if json:
        tables.print_json(out, [tables.schedule_entry(schedule) for schedule in known])
    else:
        out.print(tables.schedules_table(known))


def main() -> None:
    """Run the command; a user's mistake is one line and exit code 2.

    What a signal ended has 128 and its number: 130 after Ctrl-C, 143 after SIGTERM.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # advice of other libraries to programmers
    ended_by: list[signal.Signals] = []
    try:
        check_output()
        with orderly() as ended_by:
            result = app(standalone_mode=False)
    except KeepstepError as error:
        _fail(str(error))
    except _UsageError as error:
        _fail(_usage(error))
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in _EXPORT_ONLY:
            raise
        _fail(f"this needs the package {error.name}: pip install 'keepstep[export]'")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        drop_output()
        _fail(f"{error.strerror}: free some space, and run again")
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    if result == INTERRUPTED:
        what = f"ended by {ended_by[0].name}" if ended_by else "interrupted"
        _fail(f"{what}; nothing was written", 128 + (ended_by or [signal.SIGINT])[0])
    sys.exit(result if isinstance(result, int) else 0)


def _fail(message: str, code: int = 2) -> NoReturn:
    """One message on the error stream, none where it is empty, and out."""
    if message:
        complain(message)
    sys.exit(code)


def _usage(error: Exception) -> str:
    """What is wrong with the command line; nothing where typer has printed the help instead."""
    said = cast(Any, error)  # UsageError of this or that click
    message = str(said.format_message())
    path = said.ctx.command_path if said.ctx else "keepstep"
    stop = "" if message.endswith((".", "?")) else "."
    return f"{message}{stop} See `{path} --help`" if message else ""
