"""All methods, for what asks each of them. One more is a file of its own and an entry here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..models.denoiser import Denoiser
from ..schedule.schema import Call
from .kept_tokens import KeptTokens
from .method import Method
from .token_pruning import TokenPruning

METHODS: tuple[type[Method], ...] = (TokenPruning, KeptTokens)


def methods_of(
    denoiser: Denoiser, call: Call, latents: Sequence[int], halves: int
) -> tuple[Method, ...]:
    """What a call does beside running the network; latents: (B, C, h, w), halves: of guidance."""
    made = (method.of(denoiser, call, latents, halves) for method in METHODS)
    return tuple(method for method in made if method)


def constants_of(
    denoiser: Denoiser, calls: Sequence[Call], latents: Sequence[int]
) -> dict[str, np.ndarray]:
    """What is fixed of their inputs in the calls that run, a row each."""
    fixed = (method.constants(denoiser, calls, latents) for method in METHODS)
    return {name: x for given in fixed for name, x in given.items()}


def examples_of(
    denoiser: Denoiser, calls: Sequence[Call], latents: Sequence[int], generator: torch.Generator
) -> dict[str, Tensor]:
    """The rest of their inputs, which the caller gives, drawn."""
    drawn = (method.example(denoiser, calls, latents, generator) for method in METHODS)
    return {name: x for given in drawn for name, x in given.items()}
