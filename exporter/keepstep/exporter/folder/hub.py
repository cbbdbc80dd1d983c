"""What the hub's libraries fetch and say. Loaded where it is needed alone: torch is behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch  # noqa: F401 - first: without it diffusers can be imported, and does nothing
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from ..errors import ModelError


def fetched(model: str, variant: str | None, left_out: Sequence[str]) -> Path:
    """The folder into which the hub's files for `model` were downloaded; raises `ModelError`.

    left_out   components that are not
    """
    without = dict.fromkeys(left_out)  # diffusers does not download what it is given, even None
    try:
        with quiet():
            return Path(DiffusionPipeline.download(model, variant=variant, **without))
    except Exception as error:
        raise ModelError(
            f"{model}: is neither a folder nor a hub id within reach: {brief(error)}"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and advice from the loaders: a command has its own progress."""
    libraries = (diffusers_logging, transformers_logging)
    levels = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
            library.enable_progress_bar()


def brief(error: BaseException) -> str:
    """The first line of an error's text, which for hub libraries can be a page long."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
