"""Guidance: classifier-free, with both halves, the unconditional one first; or with one half, which
is told the scale (embedded) or not (none)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from ..schedule.settings import Guidance

NEGATIVE = "negative_"  # what belongs to the unconditional half: NEGATIVE + the other's name
SCALE = "guidance_scale"

T = TypeVar("T")


def of_guidance(named: Mapping[str, T], guidance: Guidance) -> dict[str, T]:
    """What a run takes of `named`: nothing negative with one half, no scale without guidance."""
    others = {"classifier-free": (), "embedded": (NEGATIVE,), "none": (NEGATIVE, SCALE)}[guidance]
    return {name: x for name, x in named.items() if not name.startswith(others)}


def halves_of(guidance: Guidance) -> int:
    """H: how many halves a call has."""
    return 2 if guidance == "classifier-free" else 1


def of_both(named: Mapping[str, T]) -> dict[str, T]:
    """`named` for both halves, which are alike: each name, and what is negative of it."""
    return {name: x for own, x in named.items() for name in (own, NEGATIVE + own)}


def joined(conditions: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The conditions of both halves in one batch, the unconditional half first; or of the one."""

    def both(name: str, condition: Tensor) -> Tensor:
        negative = conditions.get(NEGATIVE + name)
        return condition if negative is None else torch.cat([negative, condition])

    return {n: both(n, c) for n, c in conditions.items() if not n.startswith(NEGATIVE)}
