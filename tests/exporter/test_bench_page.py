"""The page: well-formed, by itself, escaped, and true to the report."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from exporter.bench_reports import PLAIN, report, rows
from PIL import Image

from keepstep.bench.drawing import axis, longest, png, timeline
from keepstep.bench.page import page

VOID = {"meta", "img", "line", "rect"}


class Checked(HTMLParser):
    """Refuses elements that are not closed in order; keeps what was read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)


def test_the_page_is_well_formed_and_needs_neither_network_nor_script() -> None:
    written = page(report())
    tags = Checked(written).tags
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags}
    addresses = [a[key] for _, a in tags for key in ("src", "href", "srcset") if key in a]
    assert addresses
    assert all(address and address.startswith("data:image/png;base64,") for address in addresses)
    assert not re.search(r"url\(|@import|https?:", written)


@pytest.mark.parametrize("eager", [True, False])
def test_the_page_has_every_row_its_numbers_and_the_conditions(eager: bool) -> None:
    shown = report(eager=eager)
    checked = Checked(page(shown))
    lines = [tag for tag, _ in checked.tags].count("tr")
    assert lines == 2 * (1 + len(shown.rows)), "two tables, each with its headings"
    for row in shown.rows:
        assert row.plan in checked.words
        assert f"{row.loop_macs / 1e9:.1f}" in checked.words
        assert f"{row.ssim:.3f}" in checked.words
    assert "numpy 2" in checked.words
    assert ("eager runs cpu, float32" in checked.text) == eager


def test_the_headline_is_a_product_whose_factors_are_shown() -> None:
    row = next(r for r in report().rows if (r.plan, r.how) == ("cached", "onnxruntime"))
    eager = next(r for r in report().rows if (r.plan, r.how) == ("cached", "eager"))
    assert eager.gains.schedule and row.gains.compiling and row.gains.total
    factors = f"{eager.gains.schedule:.2f} the schedule"
    text = Checked(page(report())).text
    assert factors in text
    assert f"× {row.gains.compiling:.2f} compiling" in text
    assert f"= {row.gains.total:.2f}× in all" in text


def test_texts_of_others_are_escaped() -> None:
    prompt = '<b>bold</b> & "quoted"'
    written = page(report(prompt))
    checked = Checked(written)
    assert "<b>bold" not in written
    assert prompt in checked.text
    assert any(prompt in (a.get("alt") or "") for _, a in checked.tags)
    assert "a <slow> one, 2 cores" in checked.words
    assert "nothing else was running & <that> is a note" in checked.words


def test_plain_steps_stand_beside_the_schedule_and_the_full_plan() -> None:
    shown = report()
    checked = Checked(page(shown))
    assert shown.equal_latency[0].sentence + "." in checked.words
    (without,) = (Checked(page(r)) for r in [replace(shown, equal_latency=[])])
    assert [t for t, _ in checked.tags].count("img") == 3 + [t for t, _ in without.tags].count(
        "img"
    )


def test_bars_lie_end_to_end_along_one_time_axis() -> None:
    known = rows()
    span = longest(known)
    assert span == max(row.seconds.median for row in known)
    for row in known:
        bars = [a for tag, a in Checked(timeline(row, span)).tags if tag == "rect"]
        *calls, whole = bars
        start = 0.0
        for (kind, seconds), bar in zip(row.timeline, calls, strict=True):
            known_kind = kind if kind in ("full", "shallow", "skip") else "other"
            assert bar["class"] == known_kind
            # Three digits of a percent are written.
            assert float(bar["x"].rstrip("%")) == pytest.approx(100 * start / span, abs=1e-3)
            start += seconds
            end = float(bar["x"].rstrip("%")) + float(bar["width"].rstrip("%"))
            assert end <= 100 * start / span + 2e-3
        share = 100 * row.seconds.median / span
        assert float(whole["width"].rstrip("%")) == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize("span", [0.003, 0.42, 1.0, 9.2, 61.0, 1234.0])
def test_the_axis_has_few_round_marks(span: float) -> None:
    marks = re.findall(r">([\d.e+-]+)(?: s)?</text>", axis(span))
    numbers = [float(mark) for mark in marks]
    assert 3 <= len(numbers) <= 9
    assert numbers[0] == 0
    assert numbers[-1] <= span
    assert {f"{n:e}"[0] for n in numbers[1:2]} <= {"1", "2", "5"}


def test_pictures_are_embedded_as_they_are_and_large_ones_are_shrunk() -> None:
    small = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), np.uint8)
    assert np.array_equal(opened(png(small)), np.concatenate(list(small), axis=1))
    assert opened(png(np.zeros((1, 768, 1024, 3), np.uint8))).shape == (384, 512, 3)


def opened(address: str) -> np.ndarray:
    data = base64.b64decode(address.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)))


def test_everything_that_the_page_shows_but_pictures_is_in_the_data() -> None:
    data = report().data()
    assert data["keepstep"] == 1
    assert [row["plan"] for row in data["rows"]][-1] == PLAIN
    assert data["rows"][0]["timeline"][0] == ("text", 0.1)
    assert data["equal_latency"][0]["plain"] == PLAIN
    assert data["notes"] == list(report().notes)
    assert data["machine"] == report().machine
    assert "pictures" not in data
