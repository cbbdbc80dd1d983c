"""Choices of kept tokens in numpy, from the papers: loops over pictures and clusters, stable sorts.

CAT (arXiv 2502.00433): a quarter by how far the prediction moved, more from the two clusters that
moved most; the rest by how seldom tokens were kept. RAS (arXiv 2502.10389): by how much the
prediction varies, times a factor that grows with every call that leaves a token out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
EXACT = 2**24  # whole numbers that float32 holds


def squares(latents: Floats, side: int) -> Floats:
    """Latents (C, h, w) → what each token stands for, (N, side² · C)."""
    _, h, w = latents.shape
    places = [(y, x) for y in range(0, h, side) for x in range(0, w, side)]
    parts = [latents[:, y : y + side, x : x + side] for y, x in places]
    return np.array([part.transpose(1, 2, 0).ravel() for part in parts])


def cat(
    newest: Floats, reference: Floats, counts: Floats, labels: NDArray[np.int64], side: int, k: int
) -> tuple[set[int], Floats]:
    """The tokens that are kept of one picture, and the counts that the next choice is told."""
    change = squares(newest - reference, side)
    noise = np.sqrt((change * change).sum(1, dtype=np.float32))
    values = [
        np.sum(change[labels == c].max(0) ** 2, dtype=np.float32) if (labels == c).any() else 0
        for c in range(labels.max() + 1)
    ]
    first, second = np.argsort(-np.array(values), kind="stable")[:2]
    noise = noise * np.where(labels == first, 3, np.where(labels == second, 2, 1)).astype("f4")
    n = len(noise)
    a = k // 4
    chosen = ranked(levels(noise, EXACT // n))[:a]
    fine = EXACT // (17 * n)
    seldom = 16 - np.floor(counts * 8)
    rest = ranked(seldom * fine + levels(noise, fine))
    chosen = [*chosen, *[token for token in rest if token not in set(chosen)][: k - a]]
    counts = counts / 2
    counts[chosen] += 1
    return set(map(int, chosen)), counts


def ras(newest: Floats, dropped: Floats, side: int, k: int) -> tuple[set[int], Floats]:
    """Likewise; dropped: how many calls left a token out."""
    metric = squares(newest, side).std(1, ddof=1) * np.exp(np.float32(0.1) * dropped)
    chosen = ranked(levels(metric.astype(np.float32), EXACT // len(metric)))[:k]
    dropped = dropped + 1
    dropped[chosen] -= 1
    return set(map(int, chosen)), dropped


def levels(x: Floats, count: int) -> Floats:
    """Whole numbers from 0 to count − 1."""
    return np.floor((x / x.max() if x.max() > 0 else x) * np.float32(count - 1))


def ranked(level: Floats) -> list[int]:
    """Tokens, the highest level first; among equals, in the order that spreads them."""
    n = len(level)
    stride = next(s for s in range(int(n * 0.618), n) if np.gcd(s, n) == 1)
    spread = [i * stride % n for i in range(n)]
    return sorted(range(n), key=lambda i: (-level[i], -spread[i]))
