"""Schedule files that are refused, whatever they hold, before they take time or memory."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest
import yaml
from exporter.schedules import HEAD, with_calls
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstep.exporter.errors import SamplerError, ScheduleError
from keepstep.exporter.schedule.scheduler import scheduler_from
from keepstep.exporter.schedule.schema import Schedule, parse


def replaced(old: str, new: str) -> str:
    text = with_calls('"Fs.F"')
    assert old in text
    return text.replace(old, new)


BAD = {
    "no version": (replaced("keepstep: 1", ""), ["`keepstep` is None", "write `keepstep: 1`"]),
    "version 2": (replaced("keepstep: 1", "keepstep: 2"), ["is 2", "reads 1", "update keepstep"]),
    "version as text": (replaced("keepstep: 1", 'keepstep: "1"'), ["`keepstep` is '1'"]),
    "version as a truth": (replaced("keepstep: 1", "keepstep: true"), ["`keepstep` is True"]),
    "unknown key": (replaced("calls:", "speed: 2\ncalls:"), ["`speed`", "2"]),
    "unknown key of prune": (replaced("gamma", "gama"), ["`prune.gama`"]),
    "unknown key of cache": (replaced("branch: 0", "branch: 0, depth: 1"), ["`cache.depth`"]),
    "unknown method": (replaced("ratio", "method: tome, ratio"), ["`prune.method`", "'tome'"]),
    "no name": (replaced("name: mine", ""), ["`name`"]),
    "a path for a name": (replaced("name: mine", "name: ../mine"), ["`name`", "../mine"]),
    "sampler misspelt": (replaced("sampler:", "simpler:"), ["`simpler`"]),
    "unknown letter": (replaced("Fs.F", "FxF"), ["call 1", "'x'", "F (full)"]),
    "unknown kind in a list": (with_calls("[full, deep]"), ["calls[1]", "'deep'", "shallow"]),
    "unknown key in a list": (
        with_calls("[full, {kind: full, ratio: 1}]"),
        ["calls[1]", "`ratio`"],
    ),
    "number in a list": (with_calls("[full, 3]"), ["calls[1]", "kind"]),
    "null in a list": (with_calls("[full, ~]"), ["calls[1]", "kind"]),
    "entry without kind": (with_calls("[full, {prune: false}]"), ["calls[1]", "`kind`"]),
    "pruning as a number": (with_calls("[full, {kind: full, prune: 1}]"), ["calls[1]", "`prune`"]),
    "pruning turned on": (with_calls("[full, {kind: full, prune: true}]"), ["calls[1]", "`prune`"]),
    "starts shallow": (with_calls('"sF"'), ["call 0 is shallow", "full call"]),
    "starts skipped": (with_calls('".F"'), ["call 0 is skip", "full call"]),
    "a repeat that starts shallow": (with_calls('{repeat: "sF"}'), ["call 0 is shallow"]),
    "a list that starts skipped": (with_calls("[skip, full]"), ["call 0 is skip"]),
    "shallow without cache": (replaced("cache: {branch: 0}", ""), ["shallow", "`cache`"]),
    "no cut": (
        replaced("{branch: 0}", "{}"),
        ["`cache`", "one of `branch`, `module` and `blocks`"],
    ),
    "two cuts": (
        replaced("branch: 0", "branch: 0, module: mid_block"),
        ["`cache`", "one of `branch`, `module` and `blocks`"],
    ),
    "branch below 0": (replaced("branch: 0", "branch: -1"), ["`cache.branch`", "-1"]),
    "branch as a truth": (replaced("branch: 0", "branch: true"), ["`cache.branch`", "True"]),
    "ratio 0": (replaced("0.25", "0"), ["`prune.ratio`", "greater than 0"]),
    "ratio 1": (replaced("0.25", "1"), ["`prune.ratio`", "less than 1"]),
    "ratio -1": (replaced("0.25", "-1"), ["`prune.ratio`", "greater than 0"]),
    "ratio as text": (replaced("0.25", '"x"'), ["`prune.ratio`", "number"]),
    "ratio nan": (replaced("0.25", ".nan"), ["`prune.ratio`", "nan"]),
    "ratio missing": (replaced("ratio: 0.25, ", ""), ["`prune.ratio`"]),
    "gamma nan": (replaced("gamma: 2.0", "gamma: .nan"), ["`prune.gamma`", "finite"]),
    "alpha infinite": (replaced("gamma: 2.0", "alpha: .inf"), ["`prune.alpha`", "finite"]),
    "patch 1": (replaced("patch: 4", "patch: 1"), ["`prune.patch`", "greater than or equal to 2"]),
    "patch 2.5": (replaced("patch: 4", "patch: 2.5"), ["`prune.patch`"]),
    "steps 0": (
        replaced("steps: 4", "steps: 0"),
        ["`sampler.steps`", "greater than or equal to 1"],
    ),
    "steps 4.0": (replaced("steps: 4", "steps: 4.0"), ["`sampler.steps`", "integer"]),
    "steps 1001": (replaced("steps: 4", "steps: 1001"), ["`sampler.steps`", "1000"]),
    "no calls": (HEAD, ["`calls`", "letters"]),
    "empty letters": (with_calls('""'), ["`calls` is empty"]),
    "blank letters": (with_calls('"  "'), ["`calls` is empty"]),
    "empty list": (with_calls("[]"), ["`calls` is empty"]),
    "empty repeat": (with_calls('{repeat: ""}'), ["`calls` is empty"]),
    "a number for calls": (with_calls("4"), ["`calls`", "letters"]),
    "another key beside repeat": (with_calls("{repeat: F, times: 2}"), ["`times`"]),
    "not YAML": ("keepstep: [1", ["not valid YAML"]),
    "a tag that would run code": (
        "!!python/object/apply:os.getcwd []",
        ["line 1", "tag 'tag:yaml.org,2002:python/object/apply:os.getcwd'"],
    ),
    "a tag that would import": (
        replaced("mine", "!!python/name:os.system x"),
        ["line 3: `name`", "tag"],
    ),
    "a tag that does not fit": (replaced("mine", "!!int x"), ["line 3: `name`: 'x' is no int"]),
    "a truth that is none": (replaced("mine", "!!bool x"), ["`name`: 'x' is no bool"]),
    "a tab": ("keepstep: 1\n\tname: mine", ["not valid YAML"]),
    "nested deeply": ("[" * 100_000, ["line 1: nested deeper than 16"]),
    "mappings nested deeply": ("{a: " * 100_000, ["nested deeper than 16"]),
    "lists of lists by indentation": ("- " * 100_000, ["nested deeper than 16"]),
    "a list in itself": (replaced("mine", "&a [*a]"), ["`name[0]", "nested deeper than 16"]),
    "a million values": (replaced("mine", f"[{'1,' * 500_000}]"), ["more than 30000 values"]),
    "two documents": ("keepstep: 1\n---\nkeepstep: 1", ["not valid YAML"]),
    "an impossible date": (
        replaced("name: mine", "name: 2026-99-99"),
        ["line 3: `name`: found a date", "quotes"],
    ),
    "a date": (replaced("mine", "2026-11-26"), ["`name`: found a date", "quotes"]),
    "bytes": (replaced("mine", "!!binary aGk="), ["`name`: found bytes"]),
    "a set": (replaced("mine", "!!set {a, b}"), ["`name`: found a set"]),
    "a merge key": (with_calls("[{<<: {kind: full}}]"), ["`calls[0]`", "a merge key: write its"]),
    "an unhashable key": ("{[1]: 2}", ["line 1: a key is a list", "a name"]),
    "a truth as a key": ("keepstep: 1\non: 2", ["line 2: a key is 'on', no text"]),
    "a key twice": (
        replaced("calls:", "name: other\ncalls:"),
        ["line 7: the key 'name' appears twice"],
    ),
    "a key twice within": (
        replaced("steps: 4", "steps: 4, steps: 5"),
        ["line 4: `sampler`: the key 'steps' appears twice"],
    ),
    "thousands of digits in base 16": (
        replaced("steps: 4", f"steps: 0x{'f' * 5000}"),
        ["line 4: `sampler.steps`: found a whole number of 5002 characters"],
    ),
    "thousands of digits": (
        replaced("keepstep: 1", f"keepstep: 1{'0' * 5000}"),
        ["line 2: `keepstep`: found a whole number of 5001 characters"],
    ),
    "a setting beyond this world": (
        replaced("steps: 4", "steps: 4, num_train_timesteps: 300000000000"),
        ["`sampler`", "num_train_timesteps is 300000000000", "beyond 1e+06"],
    ),
    "a list with a setting beyond this world": (
        replaced("steps: 4", "steps: 4, trained_betas: [0.1, 1.0e+300]"),
        ["trained_betas is 1e+300"],
    ),
    "a setting that is no number": (
        replaced("steps: 4", "steps: 4, beta_start: .nan"),
        ["line 4: `sampler.beta_start`: found nan, expected a finite number"],
    ),
    "escapes": (replaced("mine", '"\\e[2J\\u202e\\0"'), ["`name`", r"'\x1b[2J\u202e\x00'"]),
    "escapes in a key": (replaced("mine", 'mine\n"\\e[2J": 1'), [r"`\x1b[2J`: Extra"]),
    "escapes in calls": (with_calls('"F\\e"'), [r"call 1 is '\x1b'"]),
    "a list": ("- keepstep", ["expected a mapping"]),
    "text": ("full", ["expected a mapping"]),
    "nothing": ("", ["expected a mapping"]),
    "keys that are not text": ("keepstep: 1\n1: 2\nname: mine", ["1"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_its_name_and_what_is_wrong(case: str) -> None:
    text, words = BAD[case]
    with pytest.raises(ScheduleError) as refused:
        parse(text, "bad.yaml")
    message = str(refused.value)
    assert message.startswith("bad.yaml: ")
    for word in words:
        assert word in message
    assert len(message) < 1000, "a page of text is no message"
    assert message.isprintable(), "neither lines nor escapes reach the terminal"


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
