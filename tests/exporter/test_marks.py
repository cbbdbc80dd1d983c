"""Marks of a selection: they say all of it, and how well founded each of them is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keepstep.exporter.check.selection_check import SCORES, SIMILARITIES
from keepstep.exporter.methods.dato import Selection, TokenCounts, select
from keepstep.exporter.methods.marks import Slack, marks_of, selection_of, slack_of

PATCH = 2


@dataclass(frozen=True)
class Drawn:
    """Two sequences of tokens that share one map of scores, and what is selected of them."""

    x: Tensor
    score: Tensor
    counts: TokenCounts
    recover: str
    selection: Selection

    @property
    def marks(self) -> Tensor:
        return marks_of(self.selection, self.counts)

    def slack(self, marks: Tensor) -> Slack:
        return slack_of(self.x, self.score, marks, self.counts, self.recover)


@st.composite
def selections(draw: st.DrawFn) -> Drawn:
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    tokens = PATCH * PATCH * rows * columns
    pruned = draw(st.integers(1, tokens - rows * columns))
    counts = TokenCounts(PATCH * rows, PATCH * columns, PATCH, pruned)
    recover = draw(st.sampled_from(["base", "kept"]))
    made = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(2, tokens, 3, generator=made)
    score = torch.randn(1, tokens, generator=made) * draw(st.sampled_from([0.0, 1.0]))
    if draw(st.booleans()):  # many ties
        x, score = x.round(), score.round()
    return Drawn(x, score, counts, recover, select(x, score, counts, recover))


@settings(max_examples=150, deadline=None)  # a busy machine is no failure
@given(drawn=selections())
def test_marks_say_all_of_a_selection(drawn: Drawn) -> None:
    marks = drawn.marks
    assert marks.dtype == torch.int32
    again = selection_of(marks, drawn.counts)
    assert torch.equal(again.kept, drawn.selection.kept)
    assert torch.equal(again.source, drawn.selection.source)
    n = drawn.counts.tokens
    assert ((marks == n + 1).sum(1) == drawn.counts.base).all()
    assert ((marks < n).sum(1) == drawn.counts.pruned).all()


@settings(max_examples=150, deadline=None)
@given(drawn=selections())
def test_what_is_selected_is_no_worse_than_anything_else(drawn: Drawn) -> None:
    slack = drawn.slack(drawn.marks)
    assert (slack.score >= 0).all()
    assert (slack.similarity >= -SIMILARITIES["float32"]).all()  # a cosine is off by some ulps


@settings(max_examples=100, deadline=None)
@given(drawn=selections())
def test_slack_is_what_the_definition_says(drawn: Drawn) -> None:
    slack = drawn.slack(drawn.marks)
    for row in range(2):
        score, similarity = slack_by_hand(drawn, row)
        np.testing.assert_allclose(slack.score[row], score, atol=SCORES)
        np.testing.assert_allclose(slack.similarity[row], similarity, atol=SIMILARITIES["float32"])


def slack_by_hand(drawn: Drawn, row: int) -> tuple[list[float], list[float]]:
    """Both of a sequence, token by token, in double precision."""
    c, marks = drawn.counts, drawn.marks[row].tolist()
    n, score = c.tokens, drawn.score[0].double().numpy()
    x = drawn.x[row].double().numpy()
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    base = [t for t in range(n) if marks[t] == n + 1]
    kept = [t for t in range(n) if marks[t] >= n]
    largest = np.abs(score).max()

    def patch(t: int) -> tuple[int, int]:
        return t // c.width // PATCH, t % c.width // PATCH

    of_scores = []
    for t in range(n):
        (lead,) = [b for b in base if patch(b) == patch(t)]
        others = [o for o in range(n) if patch(o) == patch(t) and o != lead]
        rival = max(score[o] for o in others) if t == lead else score[t]
        of_scores.append((score[lead] - rival) / largest if largest else np.inf)

    near = [max(x[t] @ x[b] for b in base) for t in range(n)]
    out = [near[t] for t in range(n) if marks[t] < n]
    stay = [near[t] for t in kept if t not in base]
    begin = (min(out) + max(stay)) / 2 if stay else -np.inf
    of_similarities = []
    for t in range(n):
        if t in base:
            of_similarities.append(np.inf)
        elif t in kept:
            of_similarities.append(begin - near[t])
        else:
            copied = base if drawn.recover == "base" else kept
            rivals = [x[t] @ x[o] for o in copied if o != marks[t]]
            lead = x[t] @ x[marks[t]] - max(rivals, default=-np.inf)
            of_similarities.append(min(near[t] - begin, lead))
    return of_scores, of_similarities


@pytest.fixture
def drawn() -> Drawn:
    """No ties: a token exchanged is a worse choice."""
    made = torch.Generator().manual_seed(3)
    counts = TokenCounts(4, 4, PATCH, 6)
    x = torch.randn(2, 16, 8, generator=made)
    score = torch.randn(1, 16, generator=made)
    return Drawn(x, score, counts, "base", select(x, score, counts, "base"))


def test_another_base_token_has_a_worse_score(drawn: Drawn) -> None:
    marks, n = drawn.marks.clone(), 16
    base = int((marks[0] == n + 1).nonzero()[0])
    other = base ^ 1  # beside it in the same patch
    marks[0, other], marks[0, base] = n + 1, n
    assert (drawn.slack(marks).score[0, [base, other]] < -SCORES).any()


def test_a_token_pruned_in_the_place_of_another_is_less_similar(drawn: Drawn) -> None:
    marks, n = drawn.marks.clone(), 16
    pruned = int((marks[0] < n).nonzero()[0])
    kept = int((marks[0] == n).nonzero()[0])
    marks[0, kept], marks[0, pruned] = marks[0, pruned].clone(), n
    slack = drawn.slack(marks).similarity
    assert (slack[0, [kept, pruned]] < -SIMILARITIES["float32"]).all()
    assert (slack[1] >= 0).all(), "the other sequence is as it was"


def test_a_copy_of_another_base_token_is_less_similar(drawn: Drawn) -> None:
    marks, n = drawn.marks.clone(), 16
    pruned = int((marks[0] < n).nonzero()[0])
    base = [int(b) for b in (marks[0] == n + 1).nonzero()[:, 0]]
    marks[0, pruned] = next(b for b in base if b != marks[0, pruned])
    assert drawn.slack(marks).similarity[0, pruned] < -SIMILARITIES["float32"]


def test_two_base_tokens_in_a_patch_are_never_a_choice(drawn: Drawn) -> None:
    marks, n = drawn.marks.clone(), 16
    kept = int((marks[0] == n).nonzero()[0])
    base = [int(b) for b in (marks[0] == n + 1).nonzero()[:, 0]]
    far = next(b for b in base if (b // 8, b % 4 // 2) != (kept // 8, kept % 4 // 2))
    marks[0, kept], marks[0, far] = n + 1, n
    assert (drawn.slack(marks).score[0] == -torch.inf).any()


def test_numbers_that_are_none_give_no_slack(drawn: Drawn) -> None:
    x = drawn.x.clone()
    x[0, 5] = torch.nan
    slack = slack_of(x, drawn.score, drawn.marks, drawn.counts, "base")
    assert not (slack.similarity[0] >= 0).all()
    assert (slack.similarity[1] >= 0).all()
