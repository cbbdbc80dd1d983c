"""Which tokens a call keeps: exactly K of each picture, whatever the numbers.

`cat` (arXiv 2502.00433) takes a quarter of them by how much the prediction moved away from a
reference, more from the two clusters that moved most, and the rest by staleness: those that were
kept least often of late. `ras` (arXiv 2502.10389) takes those whose prediction varies most, times
a factor that grows with every call that leaves a token out. `noise-only` takes those that moved
most and no others; `stale-only` and `random` look at nothing, so their tokens are constants.

Libraries differ in whom they prefer among equals, so there are none: what decides is a whole number
that is another one for every token, small enough for float32 to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import gcd

import numpy as np
import torch
from torch import Tensor

from ..errors import ScheduleError
from ..models.denoiser import TokenStream
from ..schedule.settings import Keep
from .clusters import Clusters, values_of
from .dato import MAX_TOP_K
from .token_rows import tokens_of

BY_NOISE = 0.25  # of the kept tokens, of `cat`: 307 of 1,228 in the published code
FAVOUR = (3.0, 2.0)  # how much the two first clusters count; in the code, quotas of 3, 2 and 1
FADE = 0.5  # of the count of how often a token was kept, at every call
FINEST = 8  # of a count: what is fainter is none
STARVATION = 0.1  # of `ras`: by how much a call that left a token out counts, as in its code
WHOLE = 1 << 24  # up to which float32 holds every whole number
SEED = 0


@dataclass(frozen=True)
class Chosen:
    """index   int64 (B, K), each token once
    counts  float32 (B, N), what the next choice is told: how often tokens were kept, or left out
    """

    index: Tensor
    counts: Tensor


@dataclass(frozen=True)
class Seen:
    """What a choice is made of, for B pictures.

    newest, reference   predictions (B, C, h, w) with the prompt
    counts              float32 (B, N), of the last choice; zeros at first
    labels              int64 (B, N), the clusters
    """

    newest: Tensor
    reference: Tensor
    counts: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Chooser:
    """The rule of a schedule, for the tokens of a stream; k of them are kept."""

    keep: Keep
    stream: TokenStream

    @property
    def k(self) -> int:
        """How many tokens are kept."""
        return int(self.stream.tokens * self.keep.ratio)

    @property
    def clusters(self) -> Clusters:
        """Those that `cat` looks at."""
        return Clusters(self.keep.clusters, self.stream)

    @property
    def looks(self) -> bool:
        """Whether the choice depends on the picture."""
        return self.keep.scorer in _RULES

    def check(self, schedule: str) -> None:
        """Raise `ScheduleError` where so many tokens cannot be chosen."""
        n, k = self.stream.tokens, self.k
        if k < 4:
            raise ScheduleError(
                f"schedule '{schedule}': `keep` {self.keep.ratio:g} of {n} tokens are {k}: keep at "
                f"least 4 of them, {4 / n:.2g}, or choose a larger picture"
            )
        if k > MAX_TOP_K:
            raise ScheduleError(
                f"schedule '{schedule}': `keep` {self.keep.ratio:g} of {n} tokens are {k}, above "
                f"the {MAX_TOP_K} that TensorRT chooses: keep up to {MAX_TOP_K / n:.3g}"
            )

    def choose(self, seen: Seen) -> Chosen:
        """The tokens of the next call."""
        return _RULES[self.keep.scorer](self, seen)

    def table(self, calls: int) -> np.ndarray:
        """The tokens of every call, int64 (calls, K), where they do not depend on the picture."""
        n, k = self.stream.tokens, self.k
        if self.keep.scorer == "random":
            random = np.random.default_rng(SEED)
            return np.stack([np.sort(random.permutation(n)[:k]) for _ in range(calls)])
        order = np.argsort(_shuffled(n).numpy())  # in turn, and far apart in the picture
        turns = (np.arange(calls * k) % n).reshape(calls, k)
        return np.asarray(np.sort(order[turns], axis=1))


def _cat(chooser: Chooser, seen: Seen) -> Chosen:
    k, first = chooser.k, int(BY_NOISE * chooser.k)
    clusters, side = chooser.clusters, chooser.stream.side
    change = tokens_of(seen.newest - seen.reference, side)
    noise = change.square().sum(-1).sqrt()
    value = values_of(change, seen.labels, clusters.count)
    for favour in FAVOUR:
        best = value.argmax(1, keepdim=True)  # the first of equals, on every library
        noise = torch.where(seen.labels == best, favour * noise, noise)
        value = value.scatter(1, best, -1.0)
    by_noise = _first(_level(noise, WHOLE // noise.shape[1]), first)
    taken = _marked(by_noise, seen.counts)
    by_count = _first(_stale_then_noisy(seen.counts, noise, taken), k - first)
    taken = taken + _marked(by_count, seen.counts)
    return Chosen(torch.cat([by_noise, by_count], 1), FADE * seen.counts + taken)


def _noise_only(chooser: Chooser, seen: Seen) -> Chosen:
    change = tokens_of(seen.newest - seen.reference, chooser.stream.side)
    noise = change.square().sum(-1).sqrt()
    index = _first(_level(noise, WHOLE // noise.shape[1]), chooser.k)
    return Chosen(index, FADE * seen.counts + _marked(index, seen.counts))


def _ras(chooser: Chooser, seen: Seen) -> Chosen:
    """What the paper's text says; its code leaves out the tokens that this takes first."""
    metric = tokens_of(seen.newest, chooser.stream.side).std(-1)
    score = metric * torch.exp(STARVATION * seen.counts)
    index = _first(_level(score, WHOLE // score.shape[1]), chooser.k)
    return Chosen(index, seen.counts + (1 - _marked(index, seen.counts)))


_RULES: Mapping[str, Callable[[Chooser, Seen], Chosen]] = {
    "cat": _cat,
    "noise-only": _noise_only,
    "ras": _ras,
}


def _stale_then_noisy(counts: Tensor, noise: Tensor, taken: Tensor) -> Tensor:
    """A level for each token: highest where it was kept least often; among those, where there is
    most noise; lowest where it is taken already."""
    steps = 2 * FINEST + 1  # a count stays below 2
    fine = WHOLE // (noise.shape[1] * steps)
    staleness = 2 * FINEST - torch.floor(counts * FINEST)
    return torch.where(taken > 0, -1.0, staleness * fine + _level(noise, fine))


def _level(x: Tensor, levels: int) -> Tensor:
    """Numbers of at least 0, (B, N), as whole numbers from 0 to levels − 1."""
    largest = x.amax(1, keepdim=True)
    share = torch.where(largest > 0, x / largest, 0.0)
    return torch.floor(share * (levels - 1))


def _first(level: Tensor, k: int) -> Tensor:
    """The k tokens with the highest levels (B, N), int64 (B, k)."""
    n = level.shape[1]
    return (level * n + _shuffled(n).to(level)).topk(k).indices


def _marked(index: Tensor, like: Tensor) -> Tensor:
    """1 for each of the tokens, else 0: float32 (B, N)."""
    return torch.zeros_like(like).scatter(1, index, 1.0)


def _shuffled(n: int) -> Tensor:
    """0 … N − 1 in an order that puts what is equal all over the picture."""
    stride = int(n * 0.618)
    while gcd(stride, n) > 1:
        stride += 1
    return torch.arange(n) * stride % n
