"""DaTo as a method: what its calls take and give, and what is active while they run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ..errors import ScheduleError
from ..models.denoiser import Denoiser, TokenGrid
from ..schedule.schema import Call
from ..schedule.settings import Prune
from . import SELECTION
from .attach import CallContext, pruned
from .dato import TokenCounts, change_of_tokens, count_tokens
from .marks import marks_of
from .method import Method, Output, Predictions
from .port import Port


class TokenPruning(Method):
    """One call in which self-attention sees the kept tokens only; batch: its pictures."""

    def __init__(self, context: CallContext, grid: TokenGrid, batch: int) -> None:
        self.context = context
        self._grid = grid
        self._batch = batch

    @classmethod
    def of(
        cls, denoiser: Denoiser, call: Call, latents: Sequence[int], halves: int
    ) -> TokenPruning | None:
        """Nothing where no tokens are pruned."""
        prune = call.prune
        if prune is None:
            return None
        grid = denoiser.tokens(*latents[2:])
        counts = counts_of(prune, grid, "this one")
        assert grid
        return cls(CallContext(prune, counts), grid, latents[0])

    def inputs(self) -> dict[str, tuple[Tensor, Port]]:
        """γ and α of the scores, and the noise that α weighs, if it is not 0."""
        taken = {"score_weights": (torch.zeros(1, 2), Port("score_weights", "call"))}
        if self.context.prune.alpha:
            noise = torch.zeros(1, self._batch, self.context.counts.tokens)
            taken["selection_noise"] = (noise, Port("selection_noise", "call"))
        return taken

    def outputs(self) -> dict[str, Tensor]:
        """The marks (HB, N) of every selection, by the number of the block that made it."""
        made, counts = self.context.made, self.context.counts
        return {f"{SELECTION}{n}": marks_of(selection, counts) for n, selection in made.items()}

    def made(self) -> dict[str, Output]:
        """Each is a value of its own."""
        names = {block: f"{SELECTION}{block}" for block in self.context.made}
        return {n: Output(Port(n), self._grid.blocks[block]) for block, n in names.items()}

    def restart(self) -> None:
        """Let the next block select."""
        self.context.forget_selection()

    @contextmanager
    def around(
        self, denoiser: Denoiser, last: Predictions, given: Mapping[str, Tensor]
    ) -> Iterator[None]:
        """Score the tokens by how much the prediction changed, and by noise."""
        change = (last.newest - last.older).abs().mean(dim=1)
        change = change_of_tokens(change, self.context.counts)
        score = given["score_weights"][0, 0] * change
        if self.context.prune.alpha:
            score = score + given["score_weights"][0, 1] * given["selection_noise"][0]
        self.context.begin(score)
        with pruned(denoiser.module, self._grid.blocks, self.context):
            yield

    @classmethod
    def constants(
        cls, denoiser: Denoiser, calls: Sequence[Call], latents: Sequence[int]
    ) -> dict[str, np.ndarray]:
        """γ and α of every call that runs."""
        weights = [score_weights(call, run) or (0.0, 0.0) for run, call in enumerate(calls)]
        return {"score_weights": np.array(weights, np.float32)}

    @classmethod
    def example(
        cls,
        denoiser: Denoiser,
        calls: Sequence[Call],
        latents: Sequence[int],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """`selection_noise`, (calls, B, N), if some call weighs it."""
        grid = denoiser.tokens(*latents[2:])
        if grid is None or not any(call.prune and call.prune.alpha for call in calls):
            return {}
        shape = (len(calls), latents[0], grid.rows * grid.columns)
        return {"selection_noise": torch.randn(shape, generator=generator)}


def score_weights(call: Call, run: int) -> tuple[float, float] | None:
    """γ and α of the run-th call that runs; γ waits until two predictions exist."""
    if call.prune is None:
        return None
    return (call.prune.gamma if run >= 2 else 0.0, call.prune.alpha)


def counts_of(prune: Prune, grid: TokenGrid | None, schedule: str) -> TokenCounts:
    """The static counts of `prune` on `grid`; raises `ScheduleError` if they don't fit."""
    if grid is None:
        raise ScheduleError(
            f"schedule '{schedule}': `prune` acts on self-attention in the outer levels of a UNet, "
            "and this model has none there: remove it"
        )
    return count_tokens(prune, grid.rows, grid.columns, schedule)
