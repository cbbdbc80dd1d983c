"""Puts token pruning into a network's self-attention for a while, and takes it out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..schedule.settings import Prune
from .dato import Selection, TokenCounts, gather_tokens, select


class CallContext:
    """What the pruned blocks of one network call have in common: its scores, its selection.

    `begin` is called once a network call; with `similarity: call` the first block that runs
    selects and the others use its selection, else every block selects for itself.
    `made` has the selections of the call so far, by the number of the block that selected.
    """

    def __init__(self, prune: Prune, counts: TokenCounts) -> None:
        self.prune = prune
        self.counts = counts
        self.made: dict[int, Selection] = {}
        self._score: Tensor | None = None
        self._shared: Selection | None = None

    def begin(self, score: Tensor) -> None:
        """Start a network call with scores (B, N)."""
        self._score, self._shared, self.made = score, None, {}

    def forget_selection(self) -> None:
        """Make the next block the first one: what runs before it is not part of this call."""
        self._shared = None

    def selection(self, block: int, x: Tensor) -> Selection:
        """The tokens kept in block number `block`, whose input is x (HB, N, C)."""
        assert self._score is not None, "a pruned block ran outside of a network call"
        if self._shared is not None and self.prune.similarity == "call":
            return self._shared
        self._shared = self.made[block] = self.choose(block, x, self._score)
        return self._shared

    def choose(self, block: int, x: Tensor, score: Tensor) -> Selection:
        """Select: what a block does that does not share another one's selection."""
        return select(x, score, self.counts, self.prune.recover)


@dataclass
class _PrunedProcessor:
    """An attention processor that lets the one it wraps see the kept tokens only."""

    inner: Callable[..., Tensor]
    context: CallContext
    block: int
    block_input: Tensor | None = None

    def watch(self, _module: nn.Module, args: tuple[Any, ...]) -> None:
        """Hook of the block's first norm: its argument is the block's input."""
        self.block_input = args[0]

    def __call__(self, attn: nn.Module, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        assert self.block_input is not None
        selection = self.context.selection(self.block, self.block_input)
        kept = gather_tokens(hidden_states, selection.kept)
        return gather_tokens(self.inner(attn, kept, *args, **kwargs), selection.source)


@contextmanager
def pruned(module: nn.Module, blocks: Sequence[str], context: CallContext | None) -> Iterator[None]:
    """While active, `blocks` of `module` attend only over the tokens that `context` selects.

    blocks   paths of diffusers' `BasicTransformerBlock`s, in order of execution
    """
    with ExitStack() as undo:
        for number, path in enumerate(blocks) if context else ():
            assert context is not None
            block: Any = module.get_submodule(path)
            inner = block.attn1.processor
            processor = _PrunedProcessor(inner, context, number)
            undo.callback(block.attn1.set_processor, inner)
            undo.callback(block.norm1.register_forward_pre_hook(processor.watch).remove)
            block.attn1.set_processor(processor)
        yield
