"""What a check found: which call is at fault, and in which words."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import pytest

from keepstep.exporter.check.verdict import CallVerdict, RunVerdict, Verdict

GOOD = CallVerdict("full", 2, "prediction", error=1e-6, tolerance=2e-5)
RUN = RunVerdict(error=1e-5, tolerance=1e-3, replayed=0.0, replayed_tolerance=2e-5)
FAULT = "selection.0: token 3 of sequence 0 is kept"


def verdict(*calls: CallVerdict, run: RunVerdict | None = None) -> Verdict:
    return Verdict("fast", "onnxruntime", calls, run)


def test_a_plan_whose_calls_and_run_are_near_is_good() -> None:
    found = verdict(GOOD, replace(GOOD, call=3), run=RUN)
    assert found.good
    assert found.mismatch is None
    assert found.sentence == "plan 'fast' on onnxruntime: as the eager run"
    assert verdict(GOOD).good, "a run need not have been recorded"


@pytest.mark.parametrize("error", [1e-4, nan])
def test_the_first_mismatch_is_told(error: float) -> None:
    off = replace(GOOD, call=4, error=error)
    found = verdict(GOOD, off, replace(off, call=5, error=1.0), run=RUN)
    assert not found.good
    assert found.mismatch == off
    assert found.sentence == (
        "plan 'fast' on onnxruntime: call 4, stage 'full' does not match the eager run: prediction "
        f"is off by {error:.2g}, expected at most 2e-05"
    )


def test_a_wrong_selection_is_told_before_what_it_leads_to() -> None:
    found = verdict(replace(GOOD, error=0.1, fault=FAULT))
    assert not found.good
    assert found.sentence.endswith(f"call 2, stage 'full' selects other tokens: {FAULT}")
    assert not verdict(replace(GOOD, fault=FAULT)).good, "however near its prediction is"


def test_of_what_is_no_number_that_is_told_and_not_which_tokens_it_selects() -> None:
    assert "prediction is off by nan" in verdict(replace(GOOD, error=nan, fault=FAULT)).sentence


def test_every_stage_is_told_by_its_worst_call() -> None:
    loose = replace(GOOD, call=3, error=1e-3, tolerance=5e-2)
    near = replace(GOOD, call=4, error=1.9e-5)
    other = replace(GOOD, stage="shallow", call=5)
    assert verdict(GOOD, loose, near, other).stages == (near, other)
    wrong = replace(GOOD, call=6, fault=FAULT)
    assert verdict(near, wrong, other).stages == (wrong, other)
    broken = replace(GOOD, call=7, error=nan)
    assert verdict(near, broken, loose).stages == (broken,)


RUNS = {
    "far from the eager run": (replace(RUN, error=0.1), "but the whole run is off by 0.1"),
    "no number": (replace(RUN, error=nan), "but the whole run is off by nan"),
    "far from its calls": (replace(RUN, replayed=0.1), "as it is played is off by 0.1 from its"),
    "played as no number": (replace(RUN, replayed=nan), "as it is played is off by nan"),
}


@pytest.mark.parametrize("case", RUNS)
def test_a_run_that_does_not_match_is_told_where_no_call_does(case: str) -> None:
    run, words = RUNS[case]
    assert not verdict(GOOD, run=run).good
    assert words in verdict(GOOD, run=run).sentence
    assert "stage 'full'" in verdict(replace(GOOD, error=1.0), run=run).sentence


def test_a_run_that_hangs_on_ties_is_held_by_its_calls_alone() -> None:
    assert verdict(GOOD, run=replace(RUN, error=0.3, tolerance=None)).good
    assert not verdict(GOOD, run=replace(RUN, tolerance=None, replayed=0.1)).good
