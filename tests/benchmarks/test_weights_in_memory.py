"""The benchmark of weights in memory: what it changes is played as before, and its page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import weights_in_memory as benchmark
from cli import tiny_bundle
from weights_in_memory import CASES, COLUMNS, Row, cells, markdown, measure, medians

from keepstep.runtime import Player
from keepstep.runtime.backends import onnxruntime

MACHINE = {
    "packages": {"numpy": "2"},
    "processor": "one",
    "cores": 2,
    "python": "3.11",
    "load": 0.5,
}


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells of memory")
def test_every_way_to_hold_weights_gives_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[np.ndarray] = []
    run = Player.run

    def kept(player: Player, *arguments: object) -> object:
        outputs = run(player, *arguments)  # type: ignore[arg-type]
        played.append(outputs["image"])
        return outputs

    monkeypatch.setattr(Player, "run", kept)
    usual = onnxruntime.session_options
    for case in CASES:
        row = measure(case, str(tiny_bundle.bundle()), runs=1)
        assert row.case == case
        assert row.seconds > 0
        assert onnxruntime.session_options is usual
    for image in played:
        # Layouts change the order of sums, and rounding to 8 bits can fall on the other side.
        assert np.abs(image.astype(int) - played[0]).max() <= 1
    benchmark.KEPT.clear()


def test_a_case_has_the_medians_of_its_processes() -> None:
    rows = [Row("a", 3, 50, 0.5), Row("a", 1, 40, 0.25), Row("a", 2, 60, 0.75)]
    assert medians(rows) == Row("a", 2, 50, 0.5)


def test_a_line_of_the_page_has_a_cell_a_column_and_the_figures_that_were_measured() -> None:
    row = Row("a", 45_600_000, 78_900_000, 1.234)
    assert cells(row) == ["a", "45.6", "78.9", "1.23"]
    assert len(cells(row)) == len(COLUMNS)
    lines = markdown(MACHINE, 30_900_000, [row])
    assert f"| {' | '.join(cells(row))} |" in lines
    assert any("30.9 MB" in line for line in lines)
