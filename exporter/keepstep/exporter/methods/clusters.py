"""Clusters of tokens, of which CAT favours those that change most (arXiv 2502.00433, section 3).

The paper clusters by k-means with random starts; here the start is a grid and the steps are eight,
so that shapes are static and a run is the same on every machine. Position weighs most in it: a
token's features are its place plus a twentieth of its prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.denoiser import TokenStream
from .token_rows import tokens_of

ROWS, COLUMNS = 4, 5  # of the first centres: 20 clusters, as the paper has
STEPS = 8
OF_PREDICTION = 0.05  # its weight beside the place, in the published code
BLOCKS = 4  # a side of the grid's clusters


@dataclass(frozen=True)
class Clusters:
    """count clusters of a stream's tokens, `lloyd` or blocks of the `grid`."""

    kind: str
    stream: TokenStream

    @property
    def count(self) -> int:
        """How many there are."""
        return ROWS * COLUMNS if self.kind == "lloyd" else BLOCKS**2

    def labels(self, prediction: Tensor) -> Tensor:
        """The cluster of every token, int64 (B, N), by a prediction (B, C, h, w)."""
        if self.kind == "grid":
            labels = _blocks(self.stream, BLOCKS, BLOCKS)
            return labels.to(prediction.device).expand(len(prediction), -1)
        return self._lloyd(tokens_of(prediction, self.stream.side))

    def _lloyd(self, tokens: Tensor) -> Tensor:
        rows, columns = self.stream.rows, self.stream.columns
        features = OF_PREDICTION * tokens + _places(rows, columns, tokens.shape[2]).to(tokens)
        y = ((torch.arange(ROWS) + 0.5) * rows / ROWS).long()
        x = ((torch.arange(COLUMNS) + 0.5) * columns / COLUMNS).long()
        centres = features[:, (y[:, None] * columns + x).flatten().to(tokens.device)]
        numbers = torch.arange(self.count, device=tokens.device)
        for _ in range(STEPS):
            member = (_nearest(features, centres)[..., None] == numbers).to(tokens)
            size = member.sum(1)[..., None]
            mean = member.transpose(1, 2) @ features / size.clamp(min=1)
            centres = torch.where(size > 0, mean, centres)
        return _nearest(features, centres)


def values_of(change: Tensor, labels: Tensor, count: int) -> Tensor:
    """How much each cluster changed, (B, count): the norm of the largest change in it, feature by
    feature; change (B, N, P), labels (B, N). A cluster without tokens has 0."""
    values = []
    for number in range(count):
        inside = (labels == number)[..., None]
        largest = torch.where(inside, change, -torch.inf).amax(1)
        values.append(torch.where(inside.any(1), largest, 0.0).square().sum(-1))
    return torch.stack(values, 1)


def _nearest(features: Tensor, centres: Tensor) -> Tensor:
    """The nearest of the centres (B, count, P) for each of the features (B, N, P)."""
    distance = centres.square().sum(-1)[:, None] - 2 * features @ centres.transpose(1, 2)
    return distance.argmin(-1)


def _places(rows: int, columns: int, features: int) -> Tensor:
    """Every token's row in the first half of the features, its column in the others: (N, P)."""
    half = features // 2
    y, x = torch.meshgrid(torch.arange(rows) / rows, torch.arange(columns) / columns, indexing="ij")
    of_rows = y.reshape(-1, 1).expand(-1, half)
    return torch.cat([of_rows, x.reshape(-1, 1).expand(-1, features - half)], 1)


def _blocks(stream: TokenStream, down: int, across: int) -> Tensor:
    """The block of the grid in which each token lies, (1, N)."""
    y = torch.arange(stream.rows) * down // stream.rows
    x = torch.arange(stream.columns) * across // stream.columns
    return (y[:, None] * across + x).reshape(1, -1)
