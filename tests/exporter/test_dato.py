"""Token selection against the definition in `dato_oracle`, and how bad settings are refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from exporter.dato_oracle import COSINE_ERROR, base_tokens, choose, cosines
from hypothesis import event, given, settings
from hypothesis import strategies as st

from keepstep.exporter.errors import ScheduleError
from keepstep.exporter.methods.dato import (
    MAX_TOP_K,
    TokenCounts,
    count_tokens,
    gather_tokens,
    select,
)
from keepstep.exporter.schedule.settings import Prune


@st.composite
def counts(draw: st.DrawFn) -> tuple[TokenCounts, float]:
    """Token counts with the ratio that they come from."""
    patch = draw(st.sampled_from([2, 4]))
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    most = 1 - 1 / patch**2
    tokens = rows * columns * patch**2
    ratio = draw(st.floats(1 / tokens, most))
    prune = Prune(ratio=ratio, patch=patch)
    return count_tokens(prune, rows * patch, columns * patch, "drawn"), ratio


def tokens_of(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if kind == "random":
        return rng.normal(size=shape).astype(np.float32)
    if kind == "few directions":  # many equal cosines, some tokens of zeros
        return rng.integers(-1, 2, size=shape).astype(np.float32)
    return np.ones(shape, np.float32)


@settings(max_examples=150, deadline=None)  # a busy machine is no failure
@given(
    drawn=counts(),
    batch=st.integers(1, 2),
    token_kind=st.sampled_from(["random", "few directions", "all equal"]),
    score_kind=st.sampled_from(["random", "few values", "zeros"]),
    recover=st.sampled_from(["base", "kept"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_selection_obeys_the_definition(
    drawn: tuple[TokenCounts, float],
    batch: int,
    token_kind: str,
    score_kind: str,
    recover: str,
    seed: int,
) -> None:
    """Whatever tie is broken how: any choice that the definition allows is right."""
    c, ratio = drawn
    rng = np.random.default_rng(seed)
    x = tokens_of(token_kind, rng, (2 * batch, c.tokens, 3))
    score = np.zeros((batch, c.tokens), np.float32)
    if score_kind != "zeros":
        score = tokens_of("random", rng, score.shape)
        score = score.round() if score_kind == "few values" else score
    event("TopK over the pruned" if c.pruned <= c.candidates - c.pruned else "TopK over the kept")

    selection = select(torch.from_numpy(x), torch.from_numpy(score), c, recover)
    assert selection.kept.shape == (2 * batch, c.tokens - int(c.tokens * ratio))
    assert selection.source.shape == (2 * batch, c.tokens)
    for i in range(2 * batch):
        kept, source = selection.kept[i].tolist(), selection.source[i].tolist()
        base = base_tokens(score[i % batch], c.width, c.patch)  # the same for both halves
        assert kept[: len(base)] == base
        others, pruned = set(kept[len(base) :]), set(range(c.tokens)) - set(kept)
        assert len(set(kept)) == len(kept)

        similarity = cosines(x[i])
        closeness = similarity[:, base].max(axis=1)
        if others and pruned:
            least_pruned = min(closeness[token] for token in pruned)
            most_kept = max(closeness[token] for token in others)
            assert least_pruned >= most_kept - COSINE_ERROR
        may_copy = base if recover == "base" else kept
        for token in range(c.tokens):
            copied = kept[source[token]]
            if token in pruned:
                assert copied in may_copy
                assert similarity[token, copied] >= similarity[token, may_copy].max() - COSINE_ERROR
            else:
                assert copied == token


@pytest.mark.parametrize("recover", ["base", "kept"])
@pytest.mark.parametrize("ratio", [0.1, 0.375, 0.6, 0.75])
def test_without_ties_the_selection_is_the_definitions_own(ratio: float, recover: str) -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(2, 48, 8)).astype(np.float32)
    score = rng.normal(size=(1, 48)).astype(np.float32)
    c = count_tokens(Prune(ratio=ratio, patch=2), 6, 8, "test")
    selection = select(torch.from_numpy(x), torch.from_numpy(score), c, recover)
    for i in range(2):
        kept, copies = choose(x[i], score[0], 8, 2, ratio, recover)
        found = selection.kept[i].tolist()
        assert sorted(found) == kept
        copied = {t: [found[selection.source[i, t]]] for t in range(48) if t not in kept}
        assert copied == copies


def test_cosines_are_of_float32_also_where_the_network_computes_in_half_precision() -> None:
    """Rounded to half precision, the cosines of 1,024 tokens would be in another order."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=(2, 1024, 4)).astype(np.float16)
    score = rng.normal(size=(1, 1024)).astype(np.float32)
    c = count_tokens(Prune(ratio=0.4), 32, 32, "test")
    selection = select(torch.from_numpy(x), torch.from_numpy(score), c)
    for i in range(2):
        kept, copies = choose(x[i].astype(np.float32), score[0], 32, 2, 0.4, "base")
        found = selection.kept[i].tolist()
        assert sorted(found) == kept
        for token, sources in copies.items():
            assert found[selection.source[i, token]] in sources


@given(
    ratio=st.floats(0.01, 0.99),
    patch=st.sampled_from([2, 4, 8]),
    rows=st.integers(1, 10),
    columns=st.integers(1, 10),
)
def test_counts_are_those_of_the_definition_or_refused(
    ratio: float, patch: int, rows: int, columns: int
) -> None:
    height, width = rows * patch, columns * patch
    pruned = int(height * width * ratio)
    try:
        c = count_tokens(Prune(ratio=ratio, patch=patch), height, width, "mine")
    except ScheduleError as error:
        candidates = height * width - rows * columns
        assert pruned == 0 or pruned > candidates
        assert "schedule 'mine'" in str(error)
        assert f"1 to {candidates} can be pruned" in str(error)
    else:
        assert (c.pruned, c.kept, c.base) == (pruned, height * width - pruned, rows * columns)
        assert c.base <= c.kept


@pytest.mark.parametrize(("height", "width"), [(6, 8), (8, 6), (7, 7)])
def test_latents_that_patches_do_not_tile_are_refused_with_both_sizes(
    height: int, width: int
) -> None:
    with pytest.raises(ScheduleError, match=rf"{height}×{width}.*4×4 do not tile.*patch"):
        count_tokens(Prune(ratio=0.4, patch=4), height, width, "mine")


@settings(max_examples=300)
@given(ratio=st.floats(0.01, 0.75), rows=st.integers(30, 100), columns=st.integers(30, 100))
def test_no_k_is_above_what_tensorrt_takes_and_the_ratios_advised_instead_are_accepted(
    ratio: float, rows: int, columns: int
) -> None:
    height, width = 2 * rows, 2 * columns
    try:
        c = count_tokens(Prune(ratio=ratio), height, width, "mine")
    except ScheduleError as error:
        event("refused")
        smaller = min(
            int(4 * rows * columns * ratio), 3 * rows * columns - int(4 * rows * columns * ratio)
        )
        assert smaller > 3840
        assert "3840" in str(error)
        advised = re.search(r"a ratio up to ([\d.]+) or from ([\d.]+)", str(error))
        assert advised
        for other in advised.groups():
            assert count_tokens(Prune(ratio=float(other)), height, width, "mine")
    else:
        assert min(c.pruned, c.candidates - c.pruned) <= MAX_TOP_K == 3840


def test_gather_tokens_takes_each_sequences_own_rows() -> None:
    rng = np.random.default_rng(7)
    x, index = rng.normal(size=(3, 5, 2)), rng.integers(0, 5, size=(3, 4))
    found = gather_tokens(torch.from_numpy(x), torch.from_numpy(index)).numpy()
    for i in range(3):
        for j in range(4):
            np.testing.assert_array_equal(found[i, j], x[i, index[i, j]])
