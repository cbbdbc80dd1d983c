"""Schedule files of any bytes: aliases, sizes, places; each is read or refused in words."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstep.exporter.errors import SamplerError, ScheduleError
from keepstep.exporter.sampler import scheduler_from
from keepstep.exporter.schedule import Call, Prune, Schedule, parse

HEAD = """
keepstep: 1
name: mine
sampler: {scheduler: DDIMScheduler, steps: 4}
cache: {branch: 0}
prune: {ratio: 0.25, patch: 4, gamma: 2.0}
"""


def with_calls(calls: str) -> str:
    return f"{HEAD}calls: {calls}\n"


@pytest.mark.parametrize("field", ["keepstep", "name", "sampler", "prune", "cache", "calls", "x"])
def test_a_file_whose_aliases_multiply_is_refused_before_it_fills_the_memory(field: str) -> None:
    """Written out, the field would have 9³⁰ entries; a message must not write it out either."""
    levels = [f"x{i + 1}: &x{i + 1} [{', '.join([f'*x{i}'] * 9)}]" for i in range(30)]
    text = "\n".join(["x0: &x0 [1]", *levels, with_calls("F"), f"{field}: *x30"])
    with pytest.raises(ScheduleError) as refused:
        parse(text)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("setting", ["*x30", "{inner: *x30}", "[*x30]", "*x6"])
def test_aliases_that_multiply_a_sampler_s_setting_are_refused(setting: str) -> None:
    """Any setting is taken until diffusers is asked, and a bundle writes it out."""
    levels = [f"  x{i + 1}: &x{i + 1} [{', '.join([f'*x{i}'] * 9)}]" for i in range(30)]
    text = with_calls("F").replace("sampler: {scheduler: DDIMScheduler, steps: 4}", "")
    lines = ["sampler:", "  scheduler: DDIMScheduler", "  steps: 4", "  x0: &x0 [1]", *levels]
    with pytest.raises(ScheduleError, match=r"more than 30000 values, written out|nested deeper"):
        parse("\n".join([text, *lines, f"  last: {setting}"]))


def test_aliases_stand_for_what_they_name() -> None:
    short = parse(with_calls("[&full {kind: full, prune: &much {ratio: 0.5}}, *full, *full]"))
    assert short.resolve(3, "DDIM") == (Call(kind="full", prune=short.calls[0].prune),) * 3
    assert short.calls[0].prune == Prune(ratio=0.5, patch=4, gamma=2.0)
    assert parse(short.to_yaml()) == short


def test_a_schedule_of_as_many_calls_as_there_can_be_is_read_as_it_was_written() -> None:
    """1,000 steps of a sampler that asks twice a step."""
    whole = parse(with_calls(f'"{"Fs" * 1000}"'))
    assert parse(whole.to_yaml()) == whole


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "device", "binary", "nul", "huge"])
def test_what_is_not_a_readable_text_file_is_refused_by_its_path(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "binary":
        path.write_bytes(bytes(range(256)))
    elif kind == "nul":
        path.write_bytes(b"keepstep: 1\nname: \0\n")
    elif kind == "huge":
        path.write_text(HEAD + "#" * (1 << 20), encoding="utf-8")
    with pytest.raises(ScheduleError) as refused:
        Schedule.load(path)
    assert str(refused.value).startswith(f"{path}: ")


def test_a_path_that_no_file_system_has_is_refused() -> None:
    with pytest.raises(ScheduleError):
        Schedule.load("a\0b.yaml")
    with pytest.raises(ScheduleError):
        Schedule.load("")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "prune", "ratio", "repeat"]), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = ["keepstep", "name", "sampler", "cache", "prune", "calls", "source"]


@settings(max_examples=300, deadline=None)  # a busy machine is no failure
@given(field=st.sampled_from(FIELDS), value=VALUES)
def test_any_value_in_any_field_is_read_or_refused_but_never_crashes(
    field: str, value: object
) -> None:
    data = yaml.safe_load(textwrap.dedent(with_calls('"Fs.F"')))
    try:
        schedule = parse(yaml.safe_dump({**data, field: value}))
        schedule.resolve(4, "DDIM")
        scheduler_from({}, schedule.sampler)
    except (ScheduleError, SamplerError):
        pass
