"""Whether a stage selected the tokens of the eager run, or others only where rounding decides.

Marks (`pruning.marks`) say where each token's attention output comes from. Two runs that compute
the same may differ where two scores or two similarities are equal to within rounding, and what
follows from there; anywhere else a difference is a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..methods import SELECTION

Marks = Mapping[str, np.ndarray]  # tensor → (b, N), int32

# Scores are computed in float32 whatever the dtype, from predictions that are the same: a mean of
# a few numbers is off by a unit or two in the last place, 6e-8 of the largest.
SCORES = 1e-6
# Similarities are cosines in float32, of a block's input in the dtype, which tens of layers gave.
SIMILARITIES = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 8e-2}
# The share of all tokens that may differ where margins cannot be looked at: what is undecided in
# one block moves the inputs of the next ones.
SHARES = {"float32": 0.02, "float16": 0.2, "bfloat16": 0.5}


@dataclass(frozen=True)
class Finding:
    """What was found about the selections of one call.

    undecided   how many of its `tokens` rounding decided otherwise than in the eager run
    fault       what is wrong beyond that, in words; empty where nothing is
    """

    undecided: int
    tokens: int
    fault: str = ""


def compare(
    found: Marks, expected: Marks, margins: Mapping[str, np.ndarray], dtype: str, untouched: bool
) -> Finding:
    """Compare the selections of a call with those of the eager run, without the model.

    margins     tensor → (2, b, N): slack of the eager run's scores and similarities
    untouched   whether the call was given what the eager run was given, all of it: then the first
                block that differs must be undecided at each token that does
    """
    fault = ""
    for tensor in sorted(expected, key=_block):
        fault = fault or _miscounted(tensor, found[tensor], expected[tensor])
        differs = found[tensor] != expected[tensor]
        if differs.mean() > SHARES[dtype]:
            fault = fault or (
                f"{tensor}: {differs.mean():.0%} of all tokens are selected otherwise than in the "
                f"eager run, expected at most {SHARES[dtype]:.0%}"
            )
        if untouched and differs.any() and tensor in margins:
            fault = fault or _decided(tensor, found, expected, margins[tensor], dtype)
            untouched = False
    return counted(found, expected, fault)


def judge(found: Marks, expected: Marks, slack: Mapping[str, np.ndarray], dtype: str) -> Finding:
    """Judge the selections of a call by their own slack (2, b, N) in an eager call that used them.

    `expected` are those of the eager run, which only count what rounding decided.
    """
    fault = ""
    for tensor in sorted(found, key=_block):
        for what, part, bound in zip(
            ("score", "similarity"), slack[tensor], (SCORES, SIMILARITIES[dtype]), strict=True
        ):
            row, token = np.unravel_index(np.argmin(part), part.shape)  # the first NaN, if any
            if not part[row, token] >= -bound and not fault:
                fault = (
                    f"{tensor}: token {token} of sequence {row} {_lot(found[tensor], row, token)}, "
                    f"but its {what} is worse than another choice's by {-part[row, token]:.2g}; "
                    f"rounding decides up to {bound:g}"
                )
    return counted(found, expected, fault)


def miscounted(found: Marks, expected: Marks) -> str:
    """What is wrong with how many tokens play which part; empty where nothing is."""
    faults = (_miscounted(t, found[t], expected[t]) for t in sorted(expected, key=_block))
    return next(filter(None, faults), "")


def counted(found: Marks, expected: Marks, fault: str = "") -> Finding:
    """How many tokens differ."""
    undecided = sum(int((found[t] != expected[t]).sum()) for t in expected)
    return Finding(undecided, sum(e.size for e in expected.values()), fault)


def _miscounted(tensor: str, found: np.ndarray, expected: np.ndarray) -> str:
    n = expected.shape[1]
    for row, (a, b) in enumerate(zip(found, expected, strict=True)):
        kept, base = int((a >= n).sum()), int((a == n + 1).sum())
        if (kept, base) != (wanted := (int((b >= n).sum()), int((b == n + 1).sum()))):
            return (
                f"{tensor}: sequence {row} keeps {kept} of {n} tokens, {base} of them as base "
                f"tokens, expected {wanted[0]} and {wanted[1]}"
            )
        copied = a[(a < n)]
        if len(astray := copied[(copied < 0) | (a[np.clip(copied, 0, n - 1)] < n)]):
            return f"{tensor}: sequence {row} copies token {astray[0]}, which is not kept"
    return ""


def _decided(tensor: str, found: Marks, expected: Marks, margins: np.ndarray, dtype: str) -> str:
    """The first token that differs where the eager run had no doubt, in words."""
    a, b = found[tensor], expected[tensor]
    n = b.shape[1]
    for row in np.flatnonzero((a != b).any(axis=1)):
        base = (a[row] > n) != (b[row] > n)
        part = (a[row] < n) != (b[row] < n)
        if base.any():  # other base tokens: all the rest follows from there
            what, tokens, bound, margin = "score", base, SCORES, margins[0, row]
        else:
            # One that copies a token whose part has changed follows from there, too.
            moved = part[np.clip(a[row], 0, n - 1)] | part[np.clip(b[row], 0, n - 1)]
            tokens = part | ((a[row] != b[row]) & ~moved)
            what, bound, margin = "similarity", SIMILARITIES[dtype], margins[1, row]
        for token in np.flatnonzero(tokens & ~(margin <= bound)):
            return (
                f"{tensor}: token {token} of sequence {row} {_lot(a, row, token)} but in the eager "
                f"run it {_lot(b, row, token)}, by a {what} of {margin[token]:.2g}; rounding "
                f"decides up to {bound:g}"
            )
    return ""


def _lot(marks: np.ndarray, row: np.integer, token: np.integer) -> str:
    n, mark = marks.shape[1], int(marks[row, token])
    return {n: "is kept", n + 1: "is a base token"}.get(mark, f"copies token {mark}")


def _block(tensor: str) -> int:
    return int(tensor.removeprefix(SELECTION))
