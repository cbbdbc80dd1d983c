"""What `keepstep verify` shows of bundles that are not as simple as a fresh one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from keepstep.exporter.check.verdict import CallVerdict, RunVerdict, Verdict
from keepstep.output.tables import verdict_table

WIDTH = 130  # the least that `keepstep verify` uses
TIED = CallVerdict(
    "shallow-dato0.4", 9, f"cached.{'down_blocks.0.' * 5}x", 1e-6, 0.05, 12, 1_228_800
)
FAULT = "selection.0: token 3 of sequence 0 is kept but in the eager run it copies token 7"
WRONG = replace(TIED, fault=FAULT)
RUN = RunVerdict(error=1e-5, tolerance=None, replayed=0.0, replayed_tolerance=1e-4)


def shown(call: CallVerdict, backend: str = "onnxruntime") -> str:
    console = Console(width=WIDTH)
    with console.capture() as capture:
        console.print(verdict_table([Verdict("dato-coco", backend, (call,), RUN)]))
    return capture.get()


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt-rtx", "onnxruntime-cuda"])
def test_no_name_or_number_is_cut_where_there_are_ties(backend: str) -> None:
    text = shown(TIED, backend)
    whole = ["dato-coco", backend, TIED.stage, "relative error", "good", "12 of 1228800"]
    for cell in [*whole, "beside its calls one by one", "not judged: it hangs on ties"]:
        assert cell in text
    assert text.count("…") == 1, "only the long tensor's beginning is left out"


def test_a_wrong_selection_is_told_in_words_and_is_no_tie() -> None:
    text = " ".join(shown(WRONG).split())
    assert "mismatch" in text
    assert f"call 9, stage 'shallow-dato0.4' selects other tokens: {FAULT}" in text
    assert "12 of" not in text


def test_a_good_bundle_is_a_table_and_no_more() -> None:
    assert "plan 'dato-coco'" not in shown(TIED)
