"""The engines of tests/stages, which the C++ runtime reads, too: the same verdict for each."""

from __future__ import annotations

from pathlib import Path

import pytest
from plans.make import text_of
from plans.toy import toy
from stages.make import corpus

from keepstep.runtime.backends.onnx_structure import check_onnx
from keepstep.runtime.backends.onnx_wire import OnnxError
from keepstep.runtime.format.plan_json import plan_from_json

ENGINES = Path(__file__).parents[1] / "stages"
WORDS = dict(
    line.split("\t") for line in (ENGINES / "words.tsv").read_text(encoding="utf-8").splitlines()
)


def check(data: bytes) -> None:
    plan = plan_from_json(text_of(toy()))
    stage = plan.stages["full"]
    check_onnx(data, stage, {name: plan.values[v].type for name, v in stage.weights.items()})


def test_the_corpus_is_what_its_script_makes() -> None:
    made = dict(corpus())
    kept = [path for path in ENGINES.rglob("*") if path.suffix in (".onnx", ".tsv")]
    assert made.keys() == {path.relative_to(ENGINES).as_posix() for path in kept}
    for path in kept:
        assert path.read_bytes() == made[path.relative_to(ENGINES).as_posix()], path


@pytest.mark.parametrize("name", [path.name for path in sorted((ENGINES / "valid").iterdir())])
def test_a_right_engine_is_accepted(name: str) -> None:
    check((ENGINES / "valid" / name).read_bytes())


@pytest.mark.parametrize("name", WORDS)
def test_a_bad_engine_is_refused_in_these_words(name: str) -> None:
    with pytest.raises(OnnxError) as caught:
        check((ENGINES / "bad" / f"{name}.onnx").read_bytes())
    assert WORDS[name] in str(caught.value)
    assert len(str(caught.value)) < 1000
