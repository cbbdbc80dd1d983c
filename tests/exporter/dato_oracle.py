"""Token pruning as its definition says it, one token after the other, in numpy and float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray

# Cosines in float32 are sums over at most 16 products of numbers below 1: good to about 5e-7.
COSINE_ERROR = 2e-6


def base_tokens(score: Array, width: int, patch: int) -> list[int]:
    """The best token of each patch, the first one on ties; patches row by row. score (N,)."""
    grid = score.reshape(-1, width)
    base = []
    for top in range(0, grid.shape[0], patch):
        for left in range(0, width, patch):
            cells = [(top + i, left + j) for i in range(patch) for j in range(patch)]
            best = max(cells, key=lambda cell: (grid[cell], -cell[0], -cell[1]))
            base.append(best[0] * width + best[1])
    return base


def cosines(x: Array) -> Array:
    """(N, C) → (N, N); a token of zeros is similar to nothing."""
    x = x.astype(np.float64)
    norms = np.linalg.norm(x, axis=-1, keepdims=True)
    unit = np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)
    return unit @ unit.T


def choose(
    x: Array, score: Array, width: int, patch: int, ratio: float, recover: str
) -> tuple[list[int], dict[int, list[int]]]:
    """Kept tokens, and for each pruned token the one it copies. x (N, C), score (N,).

    Sources whose cosines float32 cannot tell apart are all listed, the most similar one first.
    """
    similarity = cosines(x)
    base = base_tokens(score, width, patch)
    others = [token for token in range(len(x)) if token not in set(base)]
    closeness = {token: similarity[token, base].max() for token in others}
    by_closeness = sorted(others, key=lambda token: -closeness[token])
    pruned = set(by_closeness[: int(len(x) * ratio)])
    kept = [token for token in range(len(x)) if token not in pruned]
    sources = base if recover == "base" else kept
    copies = {}
    for token in pruned:
        ranked = sorted(sources, key=lambda s: -similarity[token, s])
        least = similarity[token, ranked[0]] - COSINE_ERROR
        copies[token] = [s for s in ranked if similarity[token, s] >= least]
    return kept, copies


def attention(normed: Array, kept: Sequence[int], weights: dict[str, Array]) -> Array:
    """Self-attention over the kept tokens; what a pruned token is given is not a number.

    normed (N, C) is the norm of the block's input. weights: to_q, to_k, to_v, to_out (rows are
    outputs), bias of to_out, and the number of heads.
    """
    heads = int(weights["heads"])
    kept_rows = normed[list(kept)].astype(np.float64)
    q, k, v = (kept_rows @ weights[name].T for name in ("to_q", "to_k", "to_v"))
    size = q.shape[1] // heads
    joined = np.empty_like(q)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        logits = q[:, part] @ k[:, part].T / np.sqrt(size)
        probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        joined[:, part] = probabilities @ v[:, part]
    out = np.full(normed.shape, np.nan)
    out[list(kept)] = joined @ weights["to_out"].T + weights["bias"]
    return out
