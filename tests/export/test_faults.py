"""Ten faults, each of which `verify` refuses with words that lead to its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from export import faulty
from export.faulty import PLAN

from keepstep.exporter import bundle_check, export
from keepstep.exporter.check.verdict import Verdict
from keepstep.exporter.check.verify import verify
from keepstep.exporter.errors import ExportError
from keepstep.exporter.methods import attach
from keepstep.exporter.stages import factory as stages
from keepstep.exporter.stages import networks
from keepstep.exporter.store.cache import Cache
from keepstep.runtime import Bundle


@pytest.fixture(scope="module")
def right(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(small_folder, [faulty.schedule()], tmp_path_factory.mktemp("bundle") / "right")


def test_the_bundle_without_a_fault_is_good(right: Bundle) -> None:
    verdict = verify(right, PLAN)
    assert verdict.good, verdict.sentence


def refused(bundle: Bundle, folder: Path) -> list[Verdict]:
    """The verdicts of an export, with the model at hand, and of another machine."""
    verdicts = [verify(bundle, PLAN, model=faulty.eager_calls(folder, bundle))]
    verdicts.append(verify(bundle, PLAN))
    assert not any(verdict.good for verdict in verdicts)
    assert not any(verdict.run and verdict.run.replayed for verdict in verdicts)
    return verdicts


CALL = faulty.FIRST + 4  # a shallow call, with two predictions before it and one behind it
TO_OUT = "unet.up_blocks.1.attentions.1.transformer_blocks.0.attn1.to_out.0.weight"
TO_Q = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"

EDITS: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "a wrong row of coefficients": (faulty.next_row(CALL, "coef"), CALL, "shallow"),
    "a stale row of the history": (faulty.next_row(CALL, "history"), CALL, "shallow"),
    "a row of a table shifted": (faulty.next_row(CALL, "time."), CALL, "shallow"),
    "a weight transposed": (faulty.with_weight(TO_Q, lambda w: w.T), faulty.FIRST, "full"),
    "a weight rounded to int8": (faulty.with_weight(TO_OUT, faulty.as_int8), faulty.FIRST, "full"),
    "a missing cast": (faulty.without_a_cast, faulty.FIRST + 2, "shallow"),
}


@pytest.mark.parametrize("fault", EDITS)
def test_a_fault_of_a_bundle_is_refused_at_its_place(
    fault: str, right: Bundle, small_folder: Path, tmp_path: Path
) -> None:
    edit, call, stage = EDITS[fault]
    for verdict in refused(faulty.edited(right, tmp_path / "bundle", edit), small_folder):
        mismatch = verdict.mismatch
        assert mismatch
        assert (mismatch.call, mismatch.stage.partition("-")[0]) == (call, stage)
        assert f"call {call}, stage '{mismatch.stage}'" in verdict.sentence


FULL, SHALLOW = "full-dato0.4", "shallow-dato0.4"
SELECTS = "selects other tokens"
MISTAKES: dict[str, tuple[Any, str, object, str, str]] = {
    "guidance halves exchanged": (
        networks,
        "joined",
        faulty.halves_exchanged,
        FULL,
        SELECTS,
    ),
    "a gather by one": (attach, "gather_tokens", faulty.one_further, FULL, SELECTS),
    "a wrong K": (attach, "select", faulty.one_more, FULL, "keeps 153 of 256 tokens"),
    # The third call is the first with two predictions before it, so with scores.
    "scores of the wrong half": (
        stages,
        "NetworkCall",
        faulty.ScoresOfTheOtherHalf,
        SHALLOW,
        f"{SELECTS}.* its score is worse",
    ),
}


@pytest.mark.long  # an export each; quicker tests catch the same faults by themselves
@pytest.mark.parametrize("fault", MISTAKES)
def test_a_fault_of_the_exporter_is_refused_at_its_place(
    fault: str, small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, wrong, stage, words = MISTAKES[fault]
    out, cache = tmp_path / "bundle", Cache(tmp_path / "cache")
    with faulty.tracing(module, name, wrong):
        with pytest.raises(ExportError, match=f"stage '{stage}' .*{words}"):
            export(small_folder, [faulty.schedule()], out, cache=cache)
        assert not out.exists()
        monkeypatch.setattr(bundle_check, "verify_bundle", lambda *_: None)
        bundle = export(small_folder, [faulty.schedule()], out, cache=cache)
    for verdict in refused(bundle, small_folder):
        assert verdict.mismatch
        assert verdict.mismatch.stage == stage
