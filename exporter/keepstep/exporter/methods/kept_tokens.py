"""Calls of kept tokens as a method (CAT, arXiv 2502.00433): K tokens of the picture go through the
network, and keys and values of the others are those of earlier calls.

All layers keep the same tokens, so that one which is kept is fresh from end to end, and one which
is not changes nothing but its own prediction, which is the last one again. So nothing else has to
be cached than keys and values. Three places are touched, the network's own code does the rest:
where tokens come in, K rows are taken; in every attention, K fresh keys and values replace theirs
among all; where tokens go out, the K rows are put to their places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ScheduleError
from ..models.denoiser import Denoiser, TokenStream
from ..schedule.schema import Call
from ..schedule.settings import Keep
from .clusters import Clusters
from .dato import gather_tokens
from .method import Method, Output, Predictions
from .port import Port
from .scorers import Chooser, Seen
from .token_rows import merged, put_rows

KEPT = "kept_tokens"  # 1 for each token that a call keeps; of constants, their indices
REFERENCE, COUNTS, LABELS = "reference", "token_counts", "token_labels"
NEW = "new."  # what an output is called that is in the memory of an input


class KeptTokens(Method):
    """One call that keeps K tokens; halves: of guidance."""

    def __init__(self, chooser: Chooser, denoiser: Denoiser, latents: Sequence[int], halves: int):
        self.chooser = chooser
        self._denoiser = denoiser
        self._latents = tuple(latents)
        self._halves = halves
        self._made: dict[str, Tensor] = {}
        self._kept: Tensor | None = None

    @classmethod
    def of(
        cls, denoiser: Denoiser, call: Call, latents: Sequence[int], halves: int
    ) -> KeptTokens | None:
        """Nothing but in calls of kind tokens."""
        if call.kind != "tokens":
            return None
        assert call.keep
        return cls(chooser_of(denoiser, call.keep, latents), denoiser, latents, halves)

    def inputs(self) -> dict[str, tuple[Tensor, Port]]:
        """Keys and values of all tokens, and what the choice is made of."""
        return {**self._caches(), **self._told()}

    def _caches(self) -> dict[str, tuple[Tensor, Port]]:
        rows = self._halves * self._latents[0]
        stream = self.chooser.stream
        return {
            # Gigabytes, of which the shapes alone are looked at: so they are not filled.
            name: (torch.empty(rows, n, width), Port(name, lowered=True))
            for name, (n, width) in cached(self._denoiser, stream).items()
        }

    def _told(self) -> dict[str, tuple[Tensor, Port]]:
        b, n = self._latents[0], self.chooser.stream.tokens
        if not self.chooser.looks:
            index = torch.arange(self.chooser.k)[None]
            return {KEPT: (index, Port(KEPT, "call"))}
        examples = {
            REFERENCE: torch.zeros(self._latents),
            COUNTS: torch.zeros(b, n),
            LABELS: torch.zeros(b, n, dtype=torch.int64),
        }
        return {name: (example, Port(name)) for name, example in examples.items()}

    def outputs(self) -> dict[str, Tensor]:
        """Keys and values with the fresh ones, the new counts, and which tokens were kept."""
        return dict(self._made)

    def made(self) -> dict[str, Output]:
        """All but the last in the memory of the input of the same value."""
        caches = {NEW + name: Output(port, "") for name, (_, port) in self._caches().items()}
        counts = {NEW + COUNTS: Output(Port(COUNTS), "")} if self.chooser.looks else {}
        return {**caches, **counts, KEPT: Output(Port(KEPT), "")} if counts else caches

    @contextmanager
    def around(
        self, denoiser: Denoiser, last: Predictions, given: Mapping[str, Tensor]
    ) -> Iterator[None]:
        """Choose, and run the rows of what is chosen."""
        stream = self.chooser.stream
        counts: Tensor | None = None
        if self.chooser.looks:
            seen = Seen(last.conditional, given[REFERENCE], given[COUNTS], given[LABELS])
            chosen = self.chooser.choose(seen)
            index, counts = chosen.index, chosen.counts
        else:
            index = given[KEPT].expand(self._latents[0], -1)
        self._kept = torch.zeros(len(index), stream.tokens).scatter(1, index, 1.0)
        index = index.repeat(self._halves, 1)
        self._made = {}
        with _Run(denoiser, stream, index, given, self._made).active():
            yield
        if counts is not None:
            self._made |= {NEW + COUNTS: counts, KEPT: self._kept.to(torch.int32)}

    def merged(self, prediction: Tensor, last: Predictions) -> Tensor:
        """The prediction of kept tokens, and the last one of the others; both (H·B, C, h, w)."""
        assert self._kept is not None
        kept = self._kept.repeat(self._halves, 1)
        return merged(prediction, last.window[0].flatten(0, 1), kept, self.chooser.stream)

    @classmethod
    def constants(
        cls, denoiser: Denoiser, calls: Sequence[Call], latents: Sequence[int]
    ) -> dict[str, np.ndarray]:
        """The kept tokens of every call, where they do not depend on the picture."""
        keep = next((call.keep for call in calls if call.kind == "tokens"), None)
        if keep is None or (chooser := chooser_of(denoiser, keep, latents)).looks:
            return {}
        table = np.zeros((len(calls), chooser.k), np.int64)
        tokens = [run for run, call in enumerate(calls) if call.kind == "tokens"]
        table[tokens] = chooser.table(len(tokens))
        return {KEPT: table}


class Begin(nn.Module):
    """What choices go on from, by the two predictions in front of the first one."""

    def __init__(self, clusters: Clusters) -> None:
        super().__init__()
        self.clusters = clusters

    def forward(self, history: Tensor) -> tuple[Tensor, ...]:
        """history (2, H, B, C, h, w) → reference (B, C, h, w), counts (B, N), labels (B, N)."""
        newest, reference = history[0, -1], history[1, -1]
        labels = self.clusters.labels(newest)
        return reference.clone(), torch.zeros(labels.shape), labels


def chooser_of(denoiser: Denoiser, keep: Keep, latents: Sequence[int]) -> Chooser:
    """The rule of `keep` for a network's tokens; the network has some."""
    stream = denoiser.stream(*latents[2:])
    assert stream
    return Chooser(keep, stream)


def checked(denoiser: Denoiser, keep: Keep, latents: Sequence[int], schedule: str) -> Chooser:
    """The same; raises `ScheduleError` where it does not fit the network."""
    if denoiser.stream(*latents[2:]) is None:
        raise ScheduleError(
            f"schedule '{schedule}': calls of kind tokens need a transformer, and this model is "
            "none, or does not say where its tokens are: use full and shallow calls, with `prune`"
        )
    chooser = chooser_of(denoiser, keep, latents)
    chooser.check(schedule)
    return chooser


def cached(denoiser: Denoiser, stream: TokenStream) -> dict[str, tuple[int, int]]:
    """The name of every cached tensor → its rows and its features."""
    found = {}
    for number, attention in enumerate(stream.attentions):
        for name, linear in named(number, attention.path):
            module: Any = denoiser.module.get_submodule(linear)
            found[name] = (attention.before + stream.tokens, int(module.out_features))
    return found


def named(number: int, path: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """The cached tensors of an attention, and the linear layers that make them."""
    return (f"key_{number}", f"{path}.to_k"), (f"value_{number}", f"{path}.to_v")


class _Run:
    """The hooks of one call: `index` (HB, K) are its tokens; `made` gets the new caches."""

    def __init__(
        self,
        denoiser: Denoiser,
        stream: TokenStream,
        index: Tensor,
        given: Mapping[str, Tensor],
        made: dict[str, Tensor],
    ) -> None:
        self.denoiser, self.stream, self.index = denoiser, stream, index
        self.given, self.made = given, made

    @contextmanager
    def active(self) -> Iterator[None]:
        """While active, the network runs the rows at `index`."""
        stream, network = self.stream, self.denoiser.module
        with ExitStack() as hooks:

            def watch(path: str, change: Any) -> None:
                hook = network.get_submodule(path).register_forward_hook(change)
                hooks.callback(hook.remove)

            watch(stream.enter, lambda _m, _a, x: gather_tokens(x, self.index))
            watch(stream.leave, lambda _m, _a, x: self._spread(x))
            for number, attention in enumerate(stream.attentions):
                for name, linear in named(number, attention.path):
                    watch(linear, self._updated(name, attention.before))
            hooks.enter_context(self.denoiser.running(self.index))
            yield

    def _spread(self, rows: Tensor) -> Tensor:
        """Rows (HB, K, D) at their places among all, which are zeros."""
        b, _, d = rows.shape
        return put_rows(rows.new_zeros(b, self.stream.tokens, d), self.index, rows)

    def _updated(self, name: str, before: int) -> Any:
        """A hook that gives keys or values of all tokens, behind `before` of the text."""
        text = torch.arange(before).expand(len(self.index), -1)
        index = torch.cat([text, before + self.index], 1) if before else self.index

        def update(_m: nn.Module, _a: Any, rows: Tensor) -> Tensor:
            self.made[NEW + name] = put_rows(self.given[name], index, rows)
            return self.made[NEW + name]

        return update
