"""`keepstep run --profile`: where the time of a run goes."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cli.outcome import Command, refused
from cli.tiny_bundle import contents
from PIL import Image
from safetensors.numpy import load_file

from keepstep.playing.times import Group, times_of
from keepstep.runtime import Bundle, Plan
from keepstep.runtime.player.player import CallTime, Profile

PLAN = "dato-coco"
PROMPT = ["--plan", PLAN, "--prompt", "a red apple", "--threads", "1"]
STAGES = ["text", "prompt", "full-dato0.4", "shallow-dato0.4", "decode"]
LABELS = [None, None, "full", "shallow", None]


@pytest.fixture
def plan(bundle: Path) -> Plan:
    return Bundle.open(bundle).plan(PLAN)


def profile(plan: Plan, *seconds: float) -> Profile:
    """A run whose calls took these times, each but the first two half a second longer."""
    each = [s + (0.5 if i > 1 else 0) for i, s in enumerate(seconds)]
    calls = tuple(CallTime(i, plan.calls[i], s) for i, s in enumerate(each))
    return Profile(sum(each), calls, {})


def test_every_call_is_in_the_group_of_its_stage_and_label(plan: Plan) -> None:
    times = times_of(plan, [profile(plan, *range(1, 8))])
    assert times.groups == (
        Group("text", None, 1, 1),
        Group("prompt", None, 1, 2),
        Group("full-dato0.4", "full", 2, 3.5 + 5.5),
        Group("shallow-dato0.4", "shallow", 2, 4.5 + 6.5),
        Group("decode", None, 1, 7.5),
    )
    assert (times.runs, times.seconds) == (1, 30.5)
    assert sum(map(times.share, times.groups)) == pytest.approx(1)


def test_of_several_runs_every_number_is_a_median_by_itself(plan: Plan) -> None:
    runs = [profile(plan, 1, 1, *[s] * 5) for s in (9, 1, 2)]
    times = times_of(plan, runs)
    assert (times.runs, times.seconds) == (3, 14.5)
    assert times.groups[2] == Group("full-dato0.4", "full", 2, 5.0)
    assert [call.seconds for call in times.calls] == [1, 1, *[2.5] * 5]


def test_no_time_at_all_is_shared_out_as_nothing(plan: Plan) -> None:
    times = times_of(plan, [Profile(0.0, (CallTime(0, plan.calls[0], 0.0),), {})])
    assert times.share(times.groups[0]) == 0


def test_a_table_has_a_row_for_every_kind_of_call(keepstep: Command, bundle: Path) -> None:
    outcome = keepstep("run", bundle, *PROMPT, "--profile", "--repeat", "2")
    assert (outcome.code, outcome.err) == (0, "")
    first, blank, heading, *rows, last = outcome.out.splitlines()
    assert re.fullmatch(rf"{PLAN}, \d+\.\d\d s", first)
    assert blank == ""
    assert heading.split() == ["stage", "label", "calls", "total", "mean", "share"]
    assert [row.split()[0] for row in rows] == [*STAGES, "the"]
    assert re.fullmatch(r"the whole run +7 +[\d.]+ (s|ms|µs) *", rows[-1])
    assert last == "medians of 2 runs"


def test_json_has_the_same_and_every_call(
    keepstep: Command, bundle: Path, plan: Plan, workplace: Path
) -> None:
    files = ["-o", "a.png", "--save-inputs", "in.safetensors"]
    outcome = keepstep("run", bundle, *PROMPT, *files, "--profile", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    data = json.loads(outcome.out)
    assert (data["plan"], data["backend"], data["runs"]) == (PLAN, "onnxruntime", 1)
    assert data["written"] == ["a.png", "in.safetensors"]
    assert [(entry["stage"], entry["label"]) for entry in data["calls"]] == list(
        zip(STAGES, LABELS, strict=True)
    )
    assert [each["stage"] for each in data["each"]] == [call.stage for call in plan.calls]
    assert [each["call"] for each in data["each"]] == list(range(len(plan.calls)))
    for entry in data["calls"]:
        own = [each["seconds"] for each in data["each"] if each["stage"] == entry["stage"]]
        assert entry["calls"] == len(own) == Counter(c.stage for c in plan.calls)[entry["stage"]]
        assert entry["seconds"] == pytest.approx(sum(own))
        assert entry["mean_seconds"] == pytest.approx(sum(own) / len(own))
    assert sum(entry["share"] for entry in data["calls"]) == pytest.approx(1)
    assert data["seconds"] >= sum(each["seconds"] for each in data["each"]) * 0.99


def test_what_is_measured_gives_what_is_played(keepstep: Command, bundle: Path) -> None:
    assert keepstep("run", bundle, *PROMPT, "-o", "played.png").code == 0
    measured = keepstep("run", bundle, *PROMPT, "-o", "a.png", "--profile", "--repeat", "2")
    assert measured.out.startswith("a.png: dato-coco, ")
    with Image.open("played.png") as played, Image.open("a.png") as again:
        assert played.tobytes() == again.tobytes()
    assert keepstep("run", bundle, *PROMPT, "--save-inputs", "in.safetensors").code == 0
    raw = ["--plan", PLAN, "--inputs", "in.safetensors", "--threads", "1", "--profile"]
    assert keepstep("run", bundle, *raw).code == 0
    assert keepstep("run", bundle, *raw, "--outputs", "out.safetensors").code == 0
    with Image.open("played.png") as played:
        assert np.array_equal(load_file("out.safetensors")["image"][0], np.asarray(played))


@pytest.mark.parametrize("option", [["--json"], ["--repeat", "2"]])
def test_options_of_the_times_need_profile(
    option: list[str], keepstep: Command, bundle: Path, workplace: Path
) -> None:
    outcome = keepstep("run", bundle, *PROMPT, "-o", "a.png", *option)
    refused(outcome, option[0], "--profile", "add it")
    assert contents(workplace) == {}
