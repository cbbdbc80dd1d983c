"""Selections that differ: what rounding decides is no fault, all else is."""

from __future__ import annotations

import numpy as np
import pytest

from keepstep.exporter.check.selection_check import (
    SCORES,
    SHARES,
    SIMILARITIES,
    Finding,
    Marks,
    compare,
    judge,
    miscounted,
)

N = 200  # tokens, of which the last 100 are base tokens and 40 are pruned
TENSOR = "selection.2"  # before selection.10, though not in the alphabet
SURE = 1.0  # a margin far above rounding
PRUNED, KEPT, BASE, OTHER_BASE = 0, 50, 100, 101  # a token of each kind
SCORE, SIMILARITY = 0, 1  # rows of margins


def marks() -> Marks:
    row = np.full(N, N, np.int32)
    row[:40] = BASE
    row[100:] = N + 1
    return {TENSOR: np.stack([row, row])}


def changed(**mark_of: int) -> Marks:
    """The marks with some of sequence 1 changed: t0=5 has token 0 copy token 5."""
    found = marks()
    for token, mark in mark_of.items():
        found[TENSOR][1, int(token.removeprefix("t"))] = mark
    return found


EXCHANGED = {"t0": N, "t50": BASE}  # a kept token is pruned in the place of another one
MOVED = {"t0": OTHER_BASE}  # a copy of another token


def margins(**small: float) -> dict[str, np.ndarray]:
    """Sure of all tokens but those named in sequence 1: score_50=1e-9."""
    made = np.full((2, 2, N), SURE, np.float16)
    for name, margin in small.items():
        kind, token = name.split("_")
        made[SCORE if kind == "score" else SIMILARITY, 1, int(token)] = margin
    return {TENSOR: made}


def checked(found: Marks, known: dict[str, np.ndarray], untouched: bool = True) -> Finding:
    return compare(found, marks(), known, "float32", untouched)


def test_the_same_marks_are_no_fault_and_nothing_is_undecided() -> None:
    assert checked(marks(), margins()) == Finding(0, 2 * N)


TIES = {
    "exchanged": (EXCHANGED, margins(similarity_0=1e-6, similarity_50=1e-6), 2),
    "copied": (MOVED, margins(similarity_0=1e-6), 1),
}


@pytest.mark.parametrize("case", TIES)
def test_where_rounding_decides_another_choice_is_no_fault(case: str) -> None:
    changes, known, undecided = TIES[case]
    assert checked(changed(**changes), known) == Finding(undecided, 2 * N)


FAULTS = {
    "exchanged": (EXCHANGED, margins(similarity_0=1e-6), "token 50 of sequence 1 copies token 100"),
    "copied": (MOVED, margins(), "token 0 of sequence 1 copies token 101 but in the eager run it"),
    "no number": (MOVED, margins(similarity_0=np.nan), "by a similarity of nan"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_where_the_eager_run_had_no_doubt_another_choice_is_a_fault(case: str) -> None:
    changes, known, words = FAULTS[case]
    found = checked(changed(**changes), known)
    assert f"{TENSOR}: token" in found.fault
    assert words in found.fault
    assert "rounding decides up to 1e-05" in found.fault


def test_a_new_base_token_is_held_by_its_score_and_what_follows_from_it_is_not() -> None:
    changes = {"t50": N + 1, "t100": N} | {f"t{t}": 50 for t in range(2)}
    changes |= {f"t{t}": OTHER_BASE for t in range(2, 4)}
    found = changed(**changes)
    found[TENSOR][1, 4:40] = OTHER_BASE
    expected = marks()
    expected[TENSOR][1, 4:40] = OTHER_BASE
    tie = margins(score_50=1e-7, score_100=1e-7)
    assert compare(found, expected, tie, "float32", True) == Finding(6, 2 * N)
    fault = compare(found, expected, margins(score_50=1e-7), "float32", True).fault
    assert "token 100 of sequence 1 is kept but in the eager run it is a base token" in fault
    assert f"by a score of 1; rounding decides up to {SCORES:g}" in fault


def test_a_copy_of_a_token_that_is_exchanged_goes_with_it() -> None:
    """Where pruned tokens copy from all kept ones: of what is copied no choice is left."""
    expected, found = marks(), changed(**EXCHANGED)
    expected[TENSOR][1, 1], found[TENSOR][1, 1] = KEPT, 0
    known = margins(similarity_0=1e-6, similarity_50=1e-6)
    assert compare(found, expected, known, "float32", True) == Finding(3, 2 * N)
    found[TENSOR][1, 1] = BASE
    assert compare(found, expected, known, "float32", True) == Finding(3, 2 * N)
    found[TENSOR][1, 2] = OTHER_BASE  # this one does not
    assert "token 2 of" in compare(found, expected, known, "float32", True).fault


def test_only_the_first_block_that_differs_is_held_by_its_margins() -> None:
    """What it selects otherwise moves the inputs of the blocks behind it."""
    later, tie = "selection.10", margins(similarity_0=1e-6)
    found = {TENSOR: changed(**MOVED)[TENSOR], later: changed(**MOVED)[TENSOR]}
    expected = {TENSOR: marks()[TENSOR], later: marks()[TENSOR]}
    known = {TENSOR: tie[TENSOR], later: margins()[TENSOR]}
    assert compare(found, expected, known, "float32", True) == Finding(2, 4 * N)
    known = {TENSOR: margins()[TENSOR], later: tie[TENSOR]}
    assert compare(found, expected, known, "float32", True).fault.startswith(TENSOR)


def test_a_call_that_goes_on_from_a_tie_is_held_by_the_share_that_differs() -> None:
    assert checked(changed(**MOVED), margins(), untouched=False) == Finding(1, 2 * N)
    found = checked(changed(**{f"t{t}": OTHER_BASE for t in range(20)}), margins(), untouched=False)
    assert "5% of all tokens are selected otherwise" in found.fault
    assert f"expected at most {SHARES['float32']:.0%}" in found.fault


COUNTS = {
    "one token more is kept": ({"t0": N}, "keeps 161 of 200 tokens, 100 of them as base tokens"),
    "one base token less": ({"t100": N}, "keeps 160 of 200 tokens, 99 of them as base tokens"),
    "a pruned token is copied": ({"t0": 1}, "sequence 1 copies token 1, which is not kept"),
    "no token at all": ({"t0": N, "t50": -1}, "sequence 1 copies token -1, which is not kept"),
}


@pytest.mark.parametrize("case", COUNTS)
def test_wrong_counts_are_a_fault_whatever_the_margins(case: str) -> None:
    changes, words = COUNTS[case]
    found = changed(**changes)
    assert words in miscounted(found, marks())
    known = {TENSOR: np.zeros((2, 2, N), np.float16)}
    assert words in checked(found, known, untouched=False).fault


def test_an_eager_call_with_the_same_choice_judges_it() -> None:
    found = changed(**EXCHANGED)
    slack = margins(similarity_0=-1e-6, similarity_50=-1e-6)
    assert judge(found, marks(), slack, "float32") == Finding(2, 2 * N)
    fault = judge(found, marks(), margins(similarity_50=-0.25), "float32").fault
    assert "token 50 of sequence 1 copies token 100, but its similarity is worse" in fault
    assert f"by 0.25; rounding decides up to {SIMILARITIES['float32']:g}" in fault
    assert judge(found, marks(), margins(score_3=-0.25), "float32").fault
    assert judge(found, marks(), margins(similarity_3=np.nan), "float32").fault
    assert not judge(found, marks(), margins(similarity_50=-5e-3), "float16").fault
