from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans.edits import put
from plans.make import HERE, mutated, text_of
from plans.toy import as_format_1, toy

from keepstep.runtime.errors import BundleError
from keepstep.runtime.format.plan import FORMAT_VERSION, FileEntry, Manifest, Plan, Tokenizer
from keepstep.runtime.format.plan_json import manifest_from_json, plan_from_json
from keepstep.runtime.format.plan_text import manifest_to_json, plan_to_json
from keepstep.runtime.format.strict_json import MAX_DEPTH, load

MANIFEST = Manifest(
    producer="tests",
    model={"name": "toy – é"},
    plans=("toy", "full"),
    files={"plans/toy.json": FileEntry(7, "0" * 64), "a": FileEntry(0, "f" * 64)},
    tokenizers={
        "token_ids": Tokenizer("tokenizer/tokenizer.json", 77, 49407),
        "token_ids_2": Tokenizer("tokenizer_2/tokenizer.json", 77, 0),
    },
)


@pytest.mark.parametrize("path", sorted((HERE / "valid").glob("*.json")), ids=lambda p: p.stem)
def test_a_plan_survives_being_written(path: Any) -> None:
    plan = plan_from_json(path.read_bytes())
    newest = dataclasses.replace(plan, version=FORMAT_VERSION)
    assert plan_from_json(plan_to_json(plan)) == newest


def test_a_plan_of_format_1_is_the_same_plan() -> None:
    old = plan_from_json(text_of(mutated(as_format_1)))
    assert old.version == 1
    assert dataclasses.replace(old, version=2) == plan_from_json(text_of(toy()))


def test_a_default_keeps_the_sign_of_zero() -> None:
    plan = plan_from_json(text_of(mutated(put("values", "noise", "default", [0, -0.0, 1.0, 0.5]))))
    assert '"default": [0, -0.0, 1, 0.5]' in plan_to_json(plan)


def test_equal_plans_are_written_alike() -> None:
    plan = plan_from_json(text_of(toy()))
    shuffled = dataclasses.replace(plan, values=dict(reversed(list(plan.values.items()))))
    assert plan_to_json(shuffled) == plan_to_json(plan)


def test_a_written_plan_has_one_line_a_value_call_and_step() -> None:
    plan = plan_from_json(text_of(toy()))
    lines = plan_to_json(plan).splitlines()
    assert sum('"kind": "scratch"' in line for line in lines) == 3
    assert sum(line.strip().startswith('{"stage"') for line in lines) == len(plan.calls)
    assert json.loads(plan_to_json(plan)) == json.loads(text_of(toy()))


@pytest.mark.parametrize("tokenizers", [{}, MANIFEST.tokenizers])
def test_a_manifest_survives_being_written(tokenizers: dict[str, Tokenizer]) -> None:
    manifest = dataclasses.replace(MANIFEST, tokenizers=tokenizers)
    assert manifest_from_json(manifest_to_json(manifest)) == manifest


def test_a_manifest_of_format_1_is_read() -> None:
    old = json.loads(manifest_to_json(MANIFEST)) | {"keepstep": 1}
    assert manifest_from_json(json.dumps(old)) == dataclasses.replace(MANIFEST, version=1)


@pytest.mark.parametrize(
    ("rule", "change", "message"),
    [
        (1, lambda m: m.pop("files"), "field 'files' is missing"),
        (1, lambda m: m.update(file={}), "unknown field 'file'"),
        (1, lambda m: m["model"].update(x=1), "model.x: expected a string, found 1"),
        (1, lambda m: m.update(plans="toy"), "plans: expected a list"),
        (1, lambda m: m.update(tokenizers=None), "tokenizers: expected an object"),
        (1, lambda m: m["tokenizers"]["token_ids"].pop("pad"), "field 'pad' is missing"),
        (1, lambda m: m["files"]["a"].update(sha256="0" * 63), "expected 64 hex digits"),
        (1, lambda m: m["files"]["a"].update(sha256="g" * 64), "expected 64 hex digits"),
        (1, lambda m: m["files"]["a"].update(bytes=True), "files.a.bytes: expected an int"),
        (
            2,
            lambda m: m.update(keepstep=3, x=1),
            "version 3, but this keepstep reads versions 1 and 2",
        ),
    ],
)
def test_a_bad_manifest_is_refused(
    rule: int, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    manifest = json.loads(manifest_to_json(MANIFEST))
    change(manifest)
    with pytest.raises(BundleError, match=message) as caught:
        manifest_from_json(json.dumps(manifest))
    assert caught.value.rule == rule


def test_a_mistyped_field_is_guessed() -> None:
    text = text_of(mutated(lambda plan: plan["calls"][0].update(raeds={})))
    with pytest.raises(BundleError, match=r"calls\[0\]: unknown field 'raeds'.*mean 'reads'"):
        plan_from_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.text() | st.binary() | JSON.map(json.dumps))
def test_whatever_is_read_gives_a_plan_or_a_bundle_error(text: str | bytes) -> None:
    for read in (plan_from_json, manifest_from_json):
        try:
            read(text)
        except BundleError as error:
            assert error.rule in (1, 2)
            assert "\n" not in str(error)


PLACES = [
    ("values", "noise", "shape"),
    ("values", "noise", "default"),
    ("calls", 1, "reads"),
    ("stages", "full"),
    ("stages", "full", "in_place"),
    ("steps", 0),
]


@given(st.sampled_from(PLACES), JSON)
def test_whatever_stands_in_a_plan_gives_a_plan_or_a_bundle_error(
    path: tuple[Any, ...], junk: Any
) -> None:
    plan = toy()
    *before, last = path
    at: Any = plan
    for key in before:
        at = at[key]
    at[last] = junk
    try:
        assert isinstance(plan_from_json(json.dumps(plan)), Plan)
    except BundleError as error:
        assert error.rule == 1


@given(st.lists(st.tuples(st.booleans(), st.text('[]{}"\\'), st.text('[]{}"\\')), max_size=20))
def test_depth_is_counted_as_a_parser_would(levels: list[tuple[bool, str, str]]) -> None:
    value: Any = {}
    for is_list, before, after in levels:
        value = [before, value, after] if is_list else {before + "1": 0, "x": value, after: after}
    depth = 2 + len(levels)
    text = json.dumps({"value": value})
    if depth <= MAX_DEPTH:
        load(text, "x")
    else:
        with pytest.raises(BundleError, match=f"nested {depth} deep"):
            load(text, "x")


def test_brackets_and_quotes_in_strings_do_not_nest() -> None:
    text = json.dumps({'[[["\\"' * 20: "{" * 40 + "\\\\" * 3 + '"[[[['})
    load(text, "x")
