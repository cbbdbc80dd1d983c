"""Calls of kept tokens for a network that runs eagerly (CAT, arXiv 2502.00433, section 3).

All tokens go through the network. In every attention, those that are not kept have the keys and
values that they had when they last were, so that kept tokens see what they are to see; what comes
of the others is thrown away. It costs as much as a full call, and shares with a compiled call
nothing but the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..models.denoiser import Attention
from .scorers import Chooser, Seen

Change = Callable[[str, Tensor, int], Tensor]


class TokenCache:
    """Keys and values of a network's attentions, as they were last made."""

    def __init__(self, module: nn.Module, attentions: Sequence[Attention]) -> None:
        # Where PyTorch has compiled the network, calls of kept tokens run what it was made of.
        self._module: nn.Module = getattr(module, "_orig_mod", module)
        self._attentions = attentions
        self._made: dict[str, Tensor] = {}

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Around a full call: keep all."""
        with self._changing(lambda path, x, before: x):
            yield

    @contextmanager
    def reusing(self, kept: Tensor) -> Iterator[None]:
        """Around a call of kept tokens, 1 for each and else 0: (HB, N)."""

        def mixed(path: str, x: Tensor, before: int) -> Tensor:
            text = kept.new_ones(len(kept), before)
            return torch.where(torch.cat([text, kept], 1)[..., None] > 0, x, self._made[path])

        with self._changing(mixed):
            yield

    @contextmanager
    def _changing(self, change: Change) -> Iterator[None]:
        with ExitStack() as hooks:
            for attention in self._attentions:
                for part in ("to_k", "to_v"):
                    path = f"{attention.path}.{part}"

                    def keep(
                        _m: nn.Module, _a: Any, x: Tensor, p: str = path, n: int = attention.before
                    ) -> Tensor:
                        self._made[p] = change(p, x, n)
                        return self._made[p]

                    hook = self._module.get_submodule(path).register_forward_hook(keep)
                    hooks.callback(hook.remove)
            yield


class Choices:
    """Which tokens the calls of a run keep, one after the other."""

    def __init__(self) -> None:
        self._seen: Seen | None = None
        self._made = 0

    def restart(self) -> None:
        """Behind a call of another kind: begin anew."""
        self._seen = None

    def next(self, chooser: Chooser, newest: Tensor, older: Tensor) -> Tensor:
        """1 for each token that the next call keeps, else 0: (B, N); both predictions
        (B, C, h, w), with the prompt."""
        b, n = len(newest), chooser.stream.tokens
        self._made += 1
        if not chooser.looks:
            row = torch.from_numpy(chooser.table(self._made)[-1]).to(newest.device)
            return newest.new_zeros(b, n).index_fill(1, row, 1.0)
        if self._seen is None:
            labels = chooser.clusters.labels(newest)
            self._seen = Seen(newest, older, newest.new_zeros(b, n), labels)
        chosen = chooser.choose(replace(self._seen, newest=newest))
        self._seen = replace(self._seen, counts=chosen.counts)
        return newest.new_zeros(b, n).scatter(1, chosen.index, 1.0)
