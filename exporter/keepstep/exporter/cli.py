"""The command `keepstep`: thin over the API. Every table is also to be had with --json."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from keepstep.runtime import __version__
from keepstep.runtime.errors import InputError, KeepstepError

from . import cli_cache

app = typer.Typer(
    name="keepstep",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # our own faults keep their plain traceback
)
app.add_typer(cli_cache.app, name="cache")
out = Console()
err = Console(stderr=True)
INTERRUPTED = 130  # the exit code of what Ctrl-C ended
# What typer raises for a bad command line: newer versions have their own copy of click's class.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_EXPORT_ONLY = {"diffusers", "onnx", "onnx_ir", "onnxscript", "pydantic", "torch", "torchmetrics"}
_EXPORT_ONLY |= {"scipy", "transformers", "yaml"}

BundleArgument = Annotated[Path, typer.Argument(help="A bundle made by `keepstep export`.")]
PlanOption = Annotated[str | None, typer.Option(help="Which plan; the first one if not given.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
BackendOption = Annotated[str, typer.Option(help="What plays the engines.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, max=1024, help="CPU threads; all cores if not given.")
]
SizeOption = Annotated[int | None, typer.Option(min=1, help="Pixels; the model's own if absent.")]


def _version(asked: bool) -> None:
    if asked:
        _say(f"keepstep {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", help="Say the version.", is_eager=True, callback=_version)
]


@app.callback()
def keepstep(version: VersionOption = False) -> None:
    """Compile diffusion models with fixed pruning and caching schedules, and play them."""


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A diffusers folder or hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle's folder.")],
    schedule: Annotated[
        list[str], typer.Option("--schedule", "-s", help="A built-in name or a YAML file; repeat.")
    ],
    backend: Annotated[
        list[str] | None,
        typer.Option(help="onnxruntime, tensorrt-rtx or tensorrt; repeat. [onnxruntime]"),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, float16 or bfloat16: of weights and products.")
    ] = "float32",
    float32: Annotated[
        list[str] | None,
        typer.Option(
            help="Keep it in float32: text, prompt, full, shallow, decode, or attention, linear, "
            "convolution; repeat."
        ),
    ] = None,
    height: SizeOption = None,
    width: SizeOption = None,
    batch: Annotated[int, typer.Option(help="Pictures a run.")] = 1,
    weights: Annotated[
        str, typer.Option(help="shared by all engines, or embedded in each of them.")
    ] = "shared",
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(help="GPUs that TensorRT engines are for, such as 8.9; repeat. [any]"),
    ] = None,
    weight_streaming: Annotated[
        bool, typer.Option(help="Let embedded weights stay in host memory.")
    ] = False,
    tf32: Annotated[bool, typer.Option(help="Let float32 products be rounded to TF32.")] = False,
    verify: Annotated[
        str,
        typer.Option(
            help="run: compare every stage and a whole eager run; stages: every stage; none."
        ),
    ] = "run",
) -> None:
    """Compile MODEL with one or more schedules into a bundle.

    keepstep export models/emoji -o engines/emoji -s full -s dato-coco

    keepstep export sd15 -o engines/sd15 -s full -s dato-coco --dtype float16
    --backend tensorrt-rtx --verify stages
    """
    from .compiler import export as compile_bundle
    from .engine_from_onnx import BuildOptions

    options = BuildOptions(
        compute_capabilities=tuple(compute_capability or ()),
        weights=cast(Any, weights),
        weight_streaming=weight_streaming,
        tf32=tf32,
    )
    with _progress() as report:
        bundle = compile_bundle(
            model,
            schedule,
            output,
            backend or ["onnxruntime"],
            height,
            width,
            batch,
            dtype=cast(Any, dtype),
            float32=float32 or (),
            options=options,
            verify=cast(Any, verify),
            progress=report,
        )
    total = sum(entry.bytes for entry in bundle.manifest.files.values())
    from .show import size

    _say(f"{output}: plans {', '.join(bundle.plans)}; {size(total)}")


@app.command()
def run(
    bundle: BundleArgument,
    plan: PlanOption = None,
    prompt: Annotated[str | None, typer.Option(help="What to draw.")] = None,
    negative_prompt: Annotated[str, typer.Option(help="What to avoid.")] = "",
    guidance_scale: Annotated[float, typer.Option(help="How closely to follow the prompt.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Of the start noise.")] = 0,
    init_image: Annotated[Path | None, typer.Option(help="What img2img starts from.")] = None,
    lora: Annotated[list[str] | None, typer.Option(help="FILE or FILE:SCALE; repeat.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A PNG file.")] = None,
    inputs: Annotated[Path | None, typer.Option(help="The raw form: a safetensors file.")] = None,
    outputs: Annotated[Path | None, typer.Option(help="The raw form: where results go.")] = None,
    backend: BackendOption = "onnxruntime",
    threads: ThreadsOption = None,
) -> None:
    """Play a plan: a prompt to a picture, or arrays to arrays.

    keepstep run engines/emoji --plan dato-coco --prompt "a red apple" -o a.png

    keepstep run engines/emoji --inputs in.safetensors --outputs out.safetensors
    """
    from . import play

    if (inputs is None) == (prompt is None):
        raise InputError("give either --prompt and -o, or --inputs and --outputs")
    if (output if inputs is not None else outputs) is not None:
        raise InputError("-o goes with --prompt, --outputs with --inputs: give one pair of them")
    if inputs is not None and init_image is not None:
        raise InputError("--init-image goes with --prompt: --inputs holds the array init_image")
    written = output if inputs is None else outputs
    if written is None:
        raise InputError(
            "--prompt needs -o: the PNG file to write"
            if inputs is None
            else "--inputs needs --outputs: where the results go"
        )
    play.check_target(written, ".png" if inputs is None else ".safetensors")
    opened, name = _open(bundle, plan)
    opened = opened.with_loras(map(play.lora, lora or []))
    with opened.player(name, backend, threads=threads) as player, _progress() as report:

        def progress(done: int, total: int, _call: object) -> None:
            report(name, done, total)

        if inputs is not None:
            seconds = play.arrays(player, inputs, written, progress)
        else:
            assert prompt is not None
            request = play.Request(prompt, negative_prompt, guidance_scale, seed, init_image)
            seconds = play.picture(player, request, written, progress)
    _say(f"{written}: {name}, {seconds:.2f} s")


@app.command()
def verify(
    bundle: BundleArgument,
    plan: PlanOption = None,
    backend: BackendOption = "onnxruntime",
    json: JsonOption = False,
) -> None:
    """Compare every stage, and the whole run, with golden values; exit code 1 if one departs.

    keepstep verify engines/emoji
    """
    from . import show
    from .verify import verify as check

    opened, name = _open(bundle, plan)
    names = [name] if plan else opened.plans
    repairs: dict[str, tuple[str, ...] | None] = {}
    with _progress() as report:
        verdicts = []
        for i, each in enumerate(names):
            report(each, i, len(names))
            verdicts.append(check(opened, each, backend))
            if not verdicts[-1].good:
                from .repair import repair

                report(f"{each}: look for a repair", i, len(names))
                repairs[each] = repair(opened, verdicts[-1])
    if json:
        show.print_json(out, [show.verdict_entry(v, repairs.get(v.plan)) for v in verdicts])
    else:
        out.print(show.verdict_table(verdicts))
        for plan_name, kinds in repairs.items():
            if kinds:
                options = " ".join(f"--float32 {kind}" for kind in kinds)
                _say(f"{plan_name}: repaired by exporting with {options}")
    if not all(verdict.good for verdict in verdicts):
        raise typer.Exit(1)


@app.command()
def bench(
    bundle: BundleArgument,
    model: Annotated[
        str | None, typer.Option(help="The exported model's folder, to run eager rows as well.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds over all rows.")] = 5,
    prompt: Annotated[str, typer.Option(help="What is drawn.")] = "a red apple",
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Time every plan on this machine, with the picture's quality beside it.

    keepstep bench engines/emoji --model models/emoji
    """
    from . import show
    from .bench import benchmark, report_json
    from .bench_cells import Setting

    opened, _ = _open(bundle, None)
    setting = Setting(prompt=prompt, repeats=repeats, threads=threads)
    with _progress() as report:
        rows = benchmark(opened, setting, model, report)
    if json:
        show.print_json(out, report_json(opened, setting, rows))
    else:
        # Wider than a small window: a line that goes on below it is better than cut numbers.
        Console(width=max(out.width, 130)).print(show.bench_table(rows))


@app.command()
def inspect(bundle: BundleArgument, plan: PlanOption = None, json: JsonOption = False) -> None:
    """Show plans as a person reads them: calls, kept tokens, memory, MACs, launches.

    keepstep inspect engines/emoji --plan dato-coco
    """
    from . import show
    from .summary import describe

    opened, name = _open(bundle, plan)
    described = [describe(opened.plan(each)) for each in ([name] if plan else opened.plans)]
    if json:
        show.print_json(out, {"model": dict(opened.manifest.model), "plans": described})
        return
    for entry in described:
        out.print(show.plan_panel(entry))


@app.command()
def schedules(json: JsonOption = False) -> None:
    """List the built-in schedules and what each costs.

    keepstep schedules --json
    """
    from . import show
    from .schedule import Schedule, builtin_names

    known = [Schedule.load(name) for name in builtin_names()]
    if json:
        show.print_json(out, [show.schedule_entry(schedule) for schedule in known])
    else:
        out.print(show.schedules_table(known))


def main() -> None:
    """Run the command; a user's mistake is one line and exit code 2, an interrupt is 130."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # advice of other libraries to programmers
    try:
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
        # Whatever is left for the output is dropped: writing it at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _fail(f"{error.strerror}: free some space, and run again")
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    if result == INTERRUPTED:
        _fail("interrupted; nothing was written", INTERRUPTED)
    sys.exit(result if isinstance(result, int) else 0)


def _fail(message: str, code: int = 2) -> NoReturn:
    """One message on the error stream, none where it is empty, and out."""
    if message:
        text = f"[bold red]keepstep:[/] {_escaped(message)}"
        err.print(text, highlight=False, soft_wrap=True)
    sys.exit(code)


def _usage(error: Exception) -> str:
    """What is wrong with the command line; nothing where typer has printed the help instead."""
    said = cast(Any, error)  # UsageError of this or that click
    message = str(said.format_message())
    path = said.ctx.command_path if said.ctx else "keepstep"
    stop = "" if message.endswith((".", "?")) else "."
    return f"{message}{stop} See `{path} --help`" if message else ""


def _open(path: Path, plan: str | None) -> tuple[Any, str]:
    """The bundle, and the plan's name (the first one where none is given)."""
    from keepstep.runtime import Bundle

    bundle = Bundle.open(path)
    name = plan if plan is not None else next(iter(bundle.plans), "")
    bundle.plan(name)  # refuses a name that is not there
    return bundle, name


def _say(text: str) -> None:
    """One line of a result: whatever its paths hold, it is neither wrapped nor styled."""
    out.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on the error stream; nothing where that is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def report(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield report


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
