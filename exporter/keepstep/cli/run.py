"""`keepstep run`: plays a plan, and says how long that took."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keepstep.output.progress import progress
from keepstep.output.terminal import out, say
from keepstep.runtime.errors import InputError

from .options import (
    BackendOption,
    BundleArgument,
    JsonOption,
    PlanOption,
    ThreadsOption,
    open_bundle,
)


def run(
    bundle: BundleArgument,
    plan: PlanOption = None,
    prompt: Annotated[str | None, typer.Option(help="What to draw.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What to avoid.")] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            help="How closely to follow the prompt: the model's usual one if not given; 1 or less: "
            "without guidance."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the start noise.")] = 0,
    init_image: Annotated[Path | None, typer.Option(help="What img2img starts from.")] = None,
    lora: Annotated[list[str] | None, typer.Option(help="FILE or FILE:SCALE; repeat.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A PNG file.")] = None,
    save_inputs: Annotated[
        Path | None, typer.Option(help="A safetensors file: what the prompt became.")
    ] = None,
    inputs: Annotated[Path | None, typer.Option(help="The raw form: a safetensors file.")] = None,
    outputs: Annotated[Path | None, typer.Option(help="The raw form: where results go.")] = None,
    backend: BackendOption = "onnxruntime",
    threads: ThreadsOption = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print the time of every stage and kind of call.")
    ] = False,
    repeat: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            help="With --profile: play so many times more, and give the medians of those.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Play a plan: a prompt to a picture, or arrays to arrays.

    keepstep run engines/emoji --plan dato-coco --prompt "a red apple" -o a.png

    keepstep run engines/emoji --prompt "a red apple" --save-inputs in.safetensors

    keepstep run engines/emoji --inputs in.safetensors --outputs out.safetensors

    keepstep run engines/emoji --prompt "a red apple" --profile --repeat 5
    """
    from keepstep.output.result_file import check_file_target

    from . import play

    if not profile and (json or repeat is not None):
        raise InputError("--json and --repeat are about the times that --profile prints: add it")
    if (inputs is None) == (prompt is None):
        raise InputError("give either --prompt and -o, or --inputs and --outputs")
    if (output if inputs is not None else outputs) is not None:
        raise InputError("-o goes with --prompt, --outputs with --inputs: give one pair of them")
    if inputs is not None and init_image is not None:
        raise InputError("--init-image goes with --prompt: --inputs holds the array init_image")
    if inputs is not None and save_inputs is not None:
        raise InputError("--save-inputs goes with --prompt: --inputs is such a file already")
    if inputs is not None and outputs is None and not profile:
        raise InputError("--inputs needs --outputs: where the results go; or --profile")
    if prompt is not None and output is None and save_inputs is None and not profile:
        raise InputError(
            "--prompt needs -o: the PNG file to write, or --save-inputs: the arrays that it "
            "becomes, or --profile"
        )
    if output is not None:
        check_file_target(output, ".png")
    for arrays in filter(None, (outputs, save_inputs)):
        check_file_target(arrays, ".safetensors")
    opened, name = open_bundle(bundle, plan)
    opened = opened.with_loras(map(play.lora, lora or []))
    plays = profile or output is not None or inputs is not None
    with (
        opened.player(name, backend if plays else "null", threads=threads) as player,
        progress() as report,
    ):
        if prompt is None:
            assert inputs is not None
            given = play.arrays_in(inputs)
        else:
            request = play.Request(prompt, negative_prompt, guidance_scale, seed, init_image)
            given = play.inputs_of(player, request)
        if profile:
            played = play.profiled(player, given, repeat or 0, report)
        elif plays:
            played = play.played(player, given, report)
        if output is not None:
            play.write_picture(played.outputs, output)
        if outputs is not None:
            play.write_arrays(played.outputs, outputs)
        if save_inputs is not None:  # last, so that an interrupted run leaves nothing
            play.save_inputs(player, given, save_inputs)
    written = [str(path) for path in (output, outputs, save_inputs) if path is not None]
    times = played.times if plays else None
    if times and json:
        from keepstep.output.tables import print_json
        from keepstep.playing.times import describe_times

        print_json(out, describe_times(player.plan, backend, times, written))
        return
    if plays:
        where = output or outputs
        say(f"{f'{where}: ' if where else ''}{name}, {played.seconds:.2f} s")
    if save_inputs is not None:
        say(f"{save_inputs}: inputs of {name}")
    if times:
        from keepstep.output.times_table import times_table

        say("")
        out.print(times_table(times))
        if repeat is not None:
            say(f"medians of {times.runs} runs")
