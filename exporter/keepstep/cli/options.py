"""What several commands take, and the bundle that they open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from keepstep.runtime import Bundle

BundleArgument = Annotated[Path, typer.Argument(help="A bundle made by `keepstep export`.")]
PlanOption = Annotated[str | None, typer.Option(help="Which plan; the first one if not given.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
BackendOption = Annotated[
    str,
    typer.Option(
        help="onnxruntime, onnxruntime-cuda, tensorrt-rtx, tensorrt, aotinductor or "
        "aotinductor-cuda."
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, max=1024, help="CPU threads; all cores if not given.")
]


def open_bundle(path: Path, plan: str | None) -> tuple[Bundle, str]:
    """The bundle, and the plan's name (the first one where none is given).

    Raises `InputError` for a plan that is not there, and what `Bundle.open` raises.
    """
    from keepstep.runtime import Bundle

    bundle = Bundle.open(path)
    name = plan if plan is not None else next(iter(bundle.plans), "")
    bundle.plan(name)  # refuses a name that is not there
    return bundle, name
