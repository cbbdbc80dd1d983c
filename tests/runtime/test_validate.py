from __future__ import annotations

from pathlib import Path

import pytest
from plans.bad_rules import RULES
from plans.edits import both
from plans.make import HERE, corpus, mutated, text_of
from plans.toy import as_format_1
from plans.valid import VALID as VALID_EDITS

from keepstep.runtime.errors import BundleError
from keepstep.runtime.format.plan import TensorType
from keepstep.runtime.format.plan_json import plan_from_json
from keepstep.runtime.format.validate import check_plan

BAD = sorted((HERE / "bad").glob("*.json"))
VALID = sorted((HERE / "valid").glob("*.json"))


def test_the_corpus_is_what_its_script_makes() -> None:
    committed = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in BAD + VALID}
    assert committed == dict(corpus())


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_valid_plan_is_accepted(path: Path) -> None:
    check_plan(plan_from_json(path.read_bytes()))


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_plan_is_refused_with_the_number_of_its_rule(path: Path) -> None:
    where = f"plans/{path.name}"
    with pytest.raises(BundleError) as caught:
        check_plan(plan_from_json(path.read_bytes(), where), where=where)
    assert caught.value.rule == int(path.name[:2])
    message = str(caught.value)
    assert message.startswith(where)
    assert message.isprintable()
    assert len(message) < 1000


NEWER = ("in-place", "default", "label", "scalar-defaults", "format-1", "step-has")
"""What names in the corpus say that only one format has."""


def of_format_1(name: str) -> bool:
    return not any(word in name for word in NEWER)


@pytest.mark.parametrize("name", [*filter(of_format_1, VALID_EDITS)])
def test_what_format_1_says_as_well_is_accepted_there(name: str) -> None:
    check_plan(plan_from_json(text_of(mutated(both(VALID_EDITS[name], as_format_1)))))


@pytest.mark.parametrize("name", [*filter(of_format_1, RULES)])
def test_what_format_1_says_as_well_is_refused_there(name: str) -> None:
    with pytest.raises(BundleError) as caught:
        check_plan(plan_from_json(text_of(mutated(both(RULES[name], as_format_1)))))
    assert caught.value.rule == int(name[:2])


def test_every_rule_that_a_plan_alone_can_break_has_bad_plans() -> None:
    assert {int(path.name[:2]) for path in BAD} == {*range(1, 20)} - {4, 10}


def test_a_message_names_the_place() -> None:
    text = (HERE / "bad/12-unknown-value-read.json").read_bytes()
    with pytest.raises(BundleError, match=r"x: calls\[4\]\.reads\.latents: .*did you mean"):
        check_plan(plan_from_json(text), where="x")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "holds no tensor 'coef'"),
        (TensorType("float16", (3, 3)), r"expected float32\[3, 3\], found float16\[3, 3\]"),
        (TensorType("float32", (9,)), r"expected float32\[3, 3\], found float32\[9\]"),
    ],
)
def test_constants_must_be_as_the_plan_says(found: TensorType | None, message: str) -> None:
    plan = plan_from_json((HERE / "valid/toy.json").read_bytes())
    types = {value.tensor: value.type for value in plan.values.values()} | {"coef": found}
    with pytest.raises(BundleError, match=message) as caught:
        check_plan(plan, lambda file, tensor: types[tensor])
    assert caught.value.rule == 10
