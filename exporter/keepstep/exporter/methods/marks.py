"""What a selection of tokens looks like from outside: one number a token.

The mark of a token says where its attention output comes from: of N tokens, the index of the one
that it copies; N for a token that is kept; N + 1 for a base token. Marks are made of what
attention itself is told.

How well founded a mark is, is its slack: by how much the choice was better than any other. Below
rounding another library may choose otherwise, and neither is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .dato import Selection, TokenCounts, by_patch, gather_tokens


@dataclass(frozen=True)
class Slack:
    """Of each token, by how much its mark is better than what else it could have been.

    Negative where it is worse, NaN where the numbers are none. Both (b, N) for b sequences.

    score        by how much the base token of its patch leads: over the next token there for the
                 base token, over itself for the others; as a share of the largest score
    similarity   how far on the right side of where pruning begins a token is; for one that is
                 pruned, no more than by how much it is closer to what it copies than to the next
    """

    score: Tensor
    similarity: Tensor


def marks_of(selection: Selection, counts: TokenCounts) -> Tensor:
    """The marks (b, N), int32, of a selection for b sequences."""
    kept, source = selection.kept, selection.source
    n = counts.tokens
    origin = kept.gather(1, source)
    own = torch.where(source < counts.base, n + 1, n)
    tokens = torch.arange(n, device=source.device)
    return torch.where(origin == tokens, own, origin).to(torch.int32)


def selection_of(marks: Tensor, counts: TokenCounts) -> Selection:
    """The selection that has these marks (b, N), its kept tokens in the order of `dato.select`."""
    n = counts.tokens
    order = torch.empty(n, dtype=torch.int64)
    order[_cells(counts)] = torch.arange(n)
    rank = order + n * (marks <= n) + n * (marks < n)  # base tokens, then others, then pruned ones
    places = rank.argsort(dim=1)
    place = torch.zeros_like(places).scatter(1, places, torch.arange(n).expand_as(places))
    origin = torch.where(marks < n, marks, torch.arange(n)).to(torch.int64)
    return Selection(places[:, : counts.kept], place.gather(1, origin))


def slack_of(x: Tensor, score: Tensor, marks: Tensor, counts: TokenCounts, recover: str) -> Slack:
    """How well founded `marks` (b, N) are, for block inputs x (b, N, C) and scores (B, N).

    Every row of `marks` has as many base, kept and pruned tokens as `counts` says.
    """
    score = score.repeat(len(x) // len(score), 1)
    return Slack(_score_slack(score, marks, counts), _similarity_slack(x, marks, counts, recover))


def _score_slack(score: Tensor, marks: Tensor, counts: TokenCounts) -> Tensor:
    """Without any score, the first token of a patch is its base, and nothing is left to decide."""
    cells, is_base = by_patch(score, counts), by_patch(marks, counts) == counts.tokens + 1
    lead = cells.masked_fill(~is_base, 0).sum(2, keepdim=True)
    next_best = cells.masked_fill(is_base, -torch.inf).amax(2, keepdim=True)
    slack = lead - torch.where(is_base, next_best, cells)
    largest = score.abs().amax(1)[:, None, None]
    first = torch.where(is_base[..., :1], torch.inf, -torch.inf)
    slack = torch.where(largest > 0, slack / largest, first)
    slack = torch.where(is_base.sum(2, keepdim=True) == 1, slack, -torch.inf)
    return torch.empty_like(score).index_copy(1, _cells(counts), slack.flatten(1))


def _similarity_slack(x: Tensor, marks: Tensor, counts: TokenCounts, recover: str) -> Tensor:
    n, b = counts.tokens, len(x)
    is_base, is_pruned = marks == n + 1, marks < n
    x = F.normalize(x.float(), dim=-1)
    base = is_base.nonzero()[:, 1].reshape(b, -1)
    to_base = x @ gather_tokens(x, base).transpose(1, 2)
    closeness = to_base.amax(2)
    ranked = closeness.masked_fill(is_base, -torch.inf).sort(dim=1, descending=True).values
    # Halfway between the last token that is to be pruned and the first that is not.
    begin = ranked[:, counts.pruned - 1 : counts.pruned + 1].mean(1, keepdim=True)
    slack = torch.where(is_pruned, closeness - begin, begin - closeness)

    copied, to_copied = base, to_base
    if recover == "kept":
        copied = (~is_pruned).nonzero()[:, 1].reshape(b, -1)
        to_copied = x @ gather_tokens(x, copied).transpose(1, 2)
    is_own = copied[:, None, :] == marks[:, :, None]
    lead = to_copied.masked_fill(~is_own, -torch.inf).amax(2)
    lead = lead - to_copied.masked_fill(is_own, -torch.inf).amax(2)
    slack = torch.where(is_pruned, torch.minimum(slack, lead), slack)
    return slack.masked_fill(is_base, torch.inf)


def _cells(counts: TokenCounts) -> Tensor:
    """All tokens (N), patch by patch."""
    return by_patch(torch.arange(counts.tokens)[None], counts).flatten()
