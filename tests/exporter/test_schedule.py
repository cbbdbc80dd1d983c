"""Schedule files: what is read, and what each call becomes; bad ones in test_bad_schedules.py."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from exporter.schedules import with_calls

from keepstep.exporter.errors import ScheduleError
from keepstep.exporter.schedule.sampler import lower
from keepstep.exporter.schedule.scheduler import scheduler_from
from keepstep.exporter.schedule.schema import Call, Schedule, builtin_names, parse
from keepstep.exporter.schedule.settings import Prune

DEFAULT = Prune(ratio=0.25, patch=4, gamma=2.0)


def kinds(calls: tuple[Call, ...]) -> str:
    return " ".join(call.kind for call in calls)


@pytest.mark.parametrize("name", builtin_names())
def test_a_built_in_fits_its_sampler_or_the_models_and_says_where_it_comes_from(name: str) -> None:
    schedule = Schedule.load(name)
    config = {"skip_prk_steps": True}  # as in the scheduler folders of Stable Diffusion
    of_transformers = schedule.keep or (schedule.cache and schedule.cache.blocks)
    own = "FlowMatchEulerDiscreteScheduler" if of_transformers else "PNDMScheduler"
    settled = schedule.sampler.settled(own, 50)
    sampler = lower(scheduler_from(config, settled), settled.steps)
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


def test_aliases_stand_for_what_they_name() -> None:
    short = parse(with_calls("[&full {kind: full, prune: &much {ratio: 0.5}}, *full, *full]"))
    assert short.resolve(3, "DDIM") == (Call(kind="full", prune=short.calls[0].prune),) * 3
    assert short.calls[0].prune == Prune(ratio=0.5, patch=4, gamma=2.0)
    assert parse(short.to_yaml()) == short


def test_a_schedule_of_as_many_calls_as_there_can_be_is_read_as_it_was_written() -> None:
    """1,000 steps of a sampler that asks twice a step."""
    whole = parse(with_calls(f'"{"Fs" * 1000}"'))
    assert parse(whole.to_yaml()) == whole


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
