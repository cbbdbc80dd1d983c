"""Schedule files: what is read, and how everything else is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from keepstep.exporter.errors import ScheduleError
from keepstep.exporter.sampler import lower, scheduler_from
from keepstep.exporter.schedule import Call, Prune, Schedule, builtin_names, parse

HEAD = """
keepstep: 1
name: mine
sampler: {scheduler: DDIMScheduler, steps: 4}
cache: {branch: 0}
prune: {ratio: 0.25, patch: 4, gamma: 2.0}
"""
DEFAULT = Prune(ratio=0.25, patch=4, gamma=2.0)


def kinds(calls: tuple[Call, ...]) -> str:
    return " ".join(call.kind for call in calls)


def with_calls(calls: str) -> str:
    return f"{HEAD}calls: {calls}\n"


@pytest.mark.parametrize("name", builtin_names())
def test_a_built_in_fits_its_own_sampler_and_says_where_it_comes_from(name: str) -> None:
    schedule = Schedule.load(name)
    config = {"skip_prk_steps": True}  # as in the scheduler folders of Stable Diffusion
    sampler = lower(scheduler_from(config, schedule.sampler), schedule.sampler.steps)
    calls = schedule.resolve(len(sampler.timesteps), "its sampler")
    assert len(calls) == len(sampler.timesteps)
    assert schedule.name == name
    assert schedule.source


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("full", {"full": 51}),
        ("dato-coco", {"full": 5, "shallow": 21, "skip": 25}),
        ("deepcache-n3", {"full": 17, "shallow": 34}),
    ],
)
def test_a_built_in_has_the_published_number_of_calls_of_each_kind(
    name: str, counts: dict[str, int]
) -> None:
    assert Counter(call.kind for call in Schedule.load(name).resolve(51, "PNDM")) == counts


def test_dato_coco_prunes_two_fifths_at_every_call_that_runs_and_cuts_at_branch_0() -> None:
    schedule = Schedule.load("dato-coco")
    assert schedule.cache is not None
    assert schedule.cache.branch == 0
    for call in schedule.resolve(51, "PNDM"):
        assert call.prune == (None if call.kind == "skip" else Prune(ratio=0.4, patch=2))


def test_sdxl_dato_is_dato_coco_without_the_call_that_pndm_makes_twice() -> None:
    ours, theirs = (Schedule.load(name) for name in ("sdxl-dato", "dato-coco"))
    sampler = lower(scheduler_from({"skip_prk_steps": True}, theirs.sampler), 50)
    (twice,) = (k for k, t in enumerate(sampler.timesteps) if t in sampler.timesteps[:k])
    calls = theirs.resolve(51, "PNDM")
    assert ours.resolve(50, "Euler") == calls[:twice] + calls[twice + 1 :]
    assert calls[twice].kind == calls[twice - 1].kind == "shallow"
    assert ours.cache == theirs.cache


def test_letters_name_kinds_and_blanks_are_free() -> None:
    calls = parse(with_calls('" F s\\n. F"')).resolve(4, "DDIM")
    assert kinds(calls) == "full shallow skip full"
    assert [call.prune for call in calls] == [DEFAULT, DEFAULT, None, DEFAULT]


@pytest.mark.parametrize(("count", "expected"), [(1, "F"), (3, "Fs."), (7, "Fs.Fs.F")])
def test_a_repeated_pattern_is_cut_to_the_calls_that_the_sampler_makes(
    count: int, expected: str
) -> None:
    repeated = parse(with_calls('{repeat: "Fs ."}')).resolve(count, "DDIM")
    assert repeated == parse(with_calls(f'"{expected}"')).resolve(count, "DDIM")


def test_a_list_entry_overrides_the_default_pruning_key_by_key() -> None:
    calls = parse(
        with_calls("""
  - full
  - {kind: shallow, prune: {ratio: 0.5}}
  - {kind: shallow, prune: false}
  - {kind: shallow}
  - skip
""")
    ).resolve(5, "DDIM")
    assert kinds(calls) == "full shallow shallow shallow skip"
    merged = Prune(ratio=0.5, patch=4, gamma=2.0)
    assert [call.prune for call in calls] == [DEFAULT, merged, None, DEFAULT, None]


def test_a_list_entry_can_prune_where_there_is_no_default() -> None:
    text = with_calls("[full, {kind: full, prune: {ratio: 0.5}}]")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("prune:"))
    calls = parse(text).resolve(2, "DDIM")
    assert [call.prune for call in calls] == [None, Prune(ratio=0.5)]


def test_other_sampler_keys_override_the_scheduler_config() -> None:
    text = with_calls("F").replace("steps: 4", "steps: 4, prediction_type: v_prediction")
    assert parse(text).sampler.overrides == {"prediction_type": "v_prediction"}
    assert parse(with_calls("F")).sampler.overrides == {}


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
    "no sampler": (replaced("sampler:", "simpler:"), ["`sampler`"]),
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
    "no cut": (replaced("{branch: 0}", "{}"), ["`cache`", "either `branch` or `module`"]),
    "two cuts": (
        replaced("branch: 0", "branch: 0, module: mid_block"),
        ["`cache`", "either `branch` or `module`"],
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


def test_a_file_without_a_fault_of_the_table_is_read() -> None:
    """The table above proves nothing unless what its entries were made from is good."""
    assert kinds(parse(with_calls('"Fs.F"')).resolve(4, "DDIM")) == "full shallow skip full"


@pytest.mark.parametrize("count", [3, 5])
def test_a_wrong_number_of_calls_is_refused_with_both_numbers_and_the_sampler(count: int) -> None:
    with pytest.raises(ScheduleError, match=f"lists 4 calls, but DDIM asks .* {count} times"):
        parse(with_calls('"Fs.F"')).resolve(count, "DDIM")


def test_an_unknown_built_in_is_refused_with_the_closest_name() -> None:
    with pytest.raises(ScheduleError, match=r"'dato-cocoa'.*Did you mean 'dato-coco'\?"):
        Schedule.load("dato-cocoa")
    with pytest.raises(ScheduleError, match=r"Built in: .*full"):
        Schedule.load("nothing-like-it")


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(with_calls("F"), encoding="utf-8")
    assert Schedule.load(path) == Schedule.load(str(path)) == parse(with_calls("F"))
