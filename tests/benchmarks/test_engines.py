"""The benchmark of real sizes: what it exports, and the page that it writes."""

from __future__ import annotations

from pathlib import Path

import engines
import pytest
from checkpoints import ARCHITECTURES
from engines import CASES, COLUMNS, USUAL, Row, schedule_file

from keepstep.exporter.schedule.schema import Schedule


@pytest.mark.parametrize("name", CASES)
def test_a_case_names_a_model_and_schedules_that_there_are(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    assert case.model in ARCHITECTURES
    loaded = [Schedule.load(schedule_file(schedule, tmp_path)) for schedule in case.schedules]
    assert len({schedule.name for schedule in loaded}) == len(case.schedules)
    assert set(USUAL) <= set(CASES)


def test_a_schedule_with_another_ratio_differs_in_nothing_else(tmp_path: Path) -> None:
    other = Schedule.load(schedule_file("dato-coco@0.6", tmp_path))
    own = Schedule.load("dato-coco")
    assert other.name == "dato-coco-0.6"
    for a, b in zip(own.resolve(51, "PNDM"), other.resolve(51, "PNDM"), strict=True):
        assert a.kind == b.kind
        assert (a.prune and {**a.prune.model_dump(), "ratio": 0.6}) == (
            b.prune and b.prune.model_dump()
        )
    changed = {"name": own.name, "prune": own.prune, "calls": own.calls}
    assert other.model_copy(update=changed) == own


def test_a_line_of_the_page_has_a_cell_a_column_and_the_figures_that_were_measured() -> None:
    row = Row(
        case="sd15",
        model="sd15",
        dtype="float16",
        weights="shared",
        schedules=("full",),
        stages=2,
        first_seconds=90.4,
        second_seconds=3.21,
        peak_bytes=2_500_000_000,
        engine_bytes={"full-ab": 20_000_000, "text-cd": 1_500_000},
        weight_bytes=2_000_000_000,
        bundle_bytes=2_025_000_000,
    )
    cells = engines.cells(row)
    assert len(cells) == len(COLUMNS)
    assert cells[4:] == ["2", "90", "3.2", "2.5", "21.5", "2000.0", "2025.0", "0.988"]
    machine = {"processor": "mine", "cores": 2, "python": "3", "packages": {"torch": "2"}}
    page = engines.markdown(machine, [row])
    assert f"| {' | '.join(cells)} |" in page
    assert not [line for line in page if "\n" in line]
    assert "| full-ab | 20.00 |" in page
