"""DaTo token pruning ("Token Pruning for Caching Better", arXiv 2501.00375) with static counts.

Per transformer block, on the block's input x (before its norm), with N tokens on an h × w grid:

1. score    γ · change + α · noise, one map an image, the same for both guidance halves; where
            N is less than the latent has pixels, a token's change is the mean of its pixels'
2. base     the token with the highest score in each patch × patch square (lowest index on ties)
3. pruned   the int(N · ratio) other tokens most similar to any base token (cosine, float32)
4. attend   self-attention over the kept tokens only: queries, keys and values
5. recover  every pruned token copies the attention output of its most similar base token

Everything is ArgMax-like arithmetic, one TopK over the smaller side, cumulative sums and Gathers:
static shapes, no sort over all tokens. Docs: docs/pruning.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ScheduleError
from ..schedule.settings import Prune

MAX_TOP_K = 3840  # TensorRT refuses a larger K


@dataclass(frozen=True)
class TokenCounts:
    """How many tokens of an h × w grid play which part."""

    height: int
    width: int
    patch: int
    pruned: int

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.height * self.width

    @property
    def base(self) -> int:
        """Base tokens: one a patch."""
        return self.tokens // self.patch**2

    @property
    def candidates(self) -> int:
        """Tokens that may be pruned: all but the base tokens."""
        return self.tokens - self.base

    @property
    def kept(self) -> int:
        """Tokens that attend."""
        return self.tokens - self.pruned


@dataclass(frozen=True)
class Selection:
    """Which tokens are kept, for b sequences.

    kept    (b, kept)   token indices: base tokens in patch order, then the others in order
    source  (b, tokens) for every token, the place in `kept` whose attention output is its own
    """

    kept: Tensor
    source: Tensor


def count_tokens(prune: Prune, height: int, width: int, schedule: str) -> TokenCounts:
    """The static counts of `prune` on an h × w grid; raises `ScheduleError` if they don't fit."""
    if height % prune.patch or width % prune.patch:
        raise ScheduleError(
            f"schedule '{schedule}': tokens lie in {height}×{width}, which squares of "
            f"{prune.patch}×{prune.patch} do not tile: choose another `patch` or picture size"
        )
    counts = TokenCounts(height, width, prune.patch, int(height * width * prune.ratio))
    if not 1 <= counts.pruned <= counts.candidates:
        most = counts.candidates / counts.tokens
        raise ScheduleError(
            f"schedule '{schedule}': ratio {prune.ratio} prunes {counts.pruned} of "
            f"{counts.tokens} tokens, but with one base token a {prune.patch}×{prune.patch} patch "
            f"1 to {counts.candidates} can be pruned: choose a ratio up to {most:g}"
        )
    if min(counts.pruned, counts.candidates - counts.pruned) > MAX_TOP_K:
        raise ScheduleError(
            f"schedule '{schedule}': ratio {prune.ratio} selects among {counts.candidates} tokens "
            f"with K = {min(counts.pruned, counts.candidates - counts.pruned)}, above the "
            f"{MAX_TOP_K} that TensorRT takes: choose a ratio up to "
            f"{floor(1e4 * MAX_TOP_K / counts.tokens) / 1e4:g} or from "
            f"{ceil(1e4 * (counts.candidates - MAX_TOP_K) / counts.tokens) / 1e4:g}"
        )
    return counts


def change_of_tokens(change: Tensor, counts: TokenCounts) -> Tensor:
    """How much each token changed, (B, N), from the change of each latent (B, h, w).

    A token at a lower resolution than the latent's own stands for a square of latents: it has
    their mean, so that γ and α mean the same at every resolution.
    """
    side = change.shape[-1] // counts.width
    if side > 1:
        change = F.avg_pool2d(change, side)
    return change.flatten(1)


def select(x: Tensor, score: Tensor, counts: TokenCounts, recover: str = "base") -> Selection:
    """Choose kept tokens from block inputs x (HB, N, C) and scores (B, N).

    The H guidance halves of x share their base tokens; what is pruned is each one's own.
    """
    halves = x.shape[0] // score.shape[0]
    base, candidates, inverse = (t.repeat(halves, 1) for t in _split_by_patch(score, counts))
    x = F.normalize(x.float(), dim=-1)
    x_candidates = gather_tokens(x, candidates)
    similarity = x_candidates @ gather_tokens(x, base).transpose(1, 2)
    closeness, nearest_base = similarity.max(dim=-1)

    place = _place_pruned_last(closeness, counts)  # a permutation of the candidates
    order = torch.zeros_like(place).scatter(1, place, _range_like(place))
    others = counts.candidates - counts.pruned
    kept = torch.cat([base, candidates.gather(1, order[:, :others])], dim=1)

    if recover == "base":
        copied = nearest_base
    else:  # the published code: from whichever kept token is most similar
        pruned = gather_tokens(x_candidates, order[:, others:])
        nearest = (pruned @ gather_tokens(x, kept).transpose(1, 2)).argmax(dim=-1)
        copied = nearest.gather(1, (place - others).clamp(min=0))
    source_of_base = torch.arange(counts.base, device=x.device).expand(x.shape[0], -1)
    source_of_candidate = torch.where(place < others, counts.base + place, copied)
    source = torch.cat([source_of_base, source_of_candidate], dim=1).gather(1, inverse)
    return Selection(kept, source)


def _split_by_patch(score: Tensor, counts: TokenCounts) -> tuple[Tensor, Tensor, Tensor]:
    """Divide the tokens by their scores (B, N), patch by patch.

    Gives the base tokens (B, base) and all others (B, candidates), both in patch order, and for
    every token its place in the two lists laid end to end (B, N).
    """
    device, b, size = score.device, score.shape[0], counts.patch**2
    tokens = by_patch(torch.arange(counts.tokens, device=device)[None], counts)
    cells = by_patch(score, counts)
    best, winner = cells[..., 0], torch.zeros_like(cells[..., 0], dtype=torch.int64)
    for i in range(1, size):  # an argmax whose ties go to the lowest index on every backend
        better = cells[..., i] > best
        best = torch.where(better, cells[..., i], best)
        winner = torch.where(better, i, winner)
    winner = winner[..., None]
    rank = torch.arange(size - 1, device=device).expand(b, counts.base, -1)
    others = rank + (rank >= winner).to(torch.int64)  # the cells of a patch but its winner
    tokens = tokens.expand(b, -1, -1)
    base = tokens.gather(2, winner)[..., 0]
    candidates = tokens.gather(2, others).reshape(b, counts.candidates)

    # The way back is arithmetic, so that it costs a Gather and no Scatter.
    cell = torch.arange(size, device=device).expand(b, counts.base, -1)
    patch = torch.arange(counts.base, device=device)[:, None]
    among_others = counts.base + patch * (size - 1) + cell - (cell > winner).to(torch.int64)
    place = torch.where(cell == winner, patch, among_others).reshape(b, counts.tokens)
    row = torch.arange(counts.height, device=device)[:, None]
    column = torch.arange(counts.width, device=device)
    p = counts.patch
    patch_of = (row // p) * (counts.width // p) + column // p
    cell_of_token = patch_of * size + (row % p) * p + column % p
    return base, candidates, place.index_select(1, cell_of_token.reshape(-1))


def by_patch(grid: Tensor, counts: TokenCounts) -> Tensor:
    """Tokens in raster order (B, N) → by patch (B, base, patch²), raster order within it."""
    p = counts.patch
    rows, columns = counts.height // p, counts.width // p
    cells = grid.reshape(-1, rows, p, columns, p).transpose(2, 3)
    return cells.reshape(-1, counts.base, p * p)


def _place_pruned_last(closeness: Tensor, counts: TokenCounts) -> Tensor:
    """Places (b, candidates) that put the kept candidates first, both parts in index order."""
    others = counts.candidates - counts.pruned
    fewer = min(counts.pruned, others)
    mark = torch.zeros_like(closeness, dtype=torch.int64)
    if fewer:  # a K of 0 is not allowed
        # TopK over the smaller side keeps K small; either side determines the other.
        top = closeness.topk(fewer, dim=1, largest=counts.pruned <= others, sorted=True)
        mark = mark.scatter(1, top.indices, torch.ones_like(top.indices))
    is_pruned = mark if counts.pruned <= others else 1 - mark
    place_if_kept = (1 - is_pruned).cumsum(1) - 1
    place_if_pruned = others + is_pruned.cumsum(1) - 1
    return torch.where(is_pruned == 1, place_if_pruned, place_if_kept)


def gather_tokens(x: Tensor, index: Tensor) -> Tensor:
    """x (b, N, C) at index (b, K) → (b, K, C), as one gather of whole rows."""
    b, n, c = x.shape
    first = n * torch.arange(b, device=x.device)[:, None]
    return x.reshape(b * n, c).index_select(0, (index + first).reshape(-1)).reshape(b, -1, c)


def _range_like(x: Tensor) -> Tensor:
    """0, 1, … along the last axis, in the shape of x (b, n)."""
    return torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)
