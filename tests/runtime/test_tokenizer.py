from __future__ import annotations

from pathlib import Path

import pytest
from runtime.toy_bundle import tokenizer

from keepstep.runtime.errors import BundleError, InputError
from keepstep.runtime.tokenizer import PromptTokenizer, of_several_vectors, spell_out


@pytest.fixture
def prompts(tmp_path: Path) -> PromptTokenizer:
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    return PromptTokenizer(tmp_path / "tokenizer.json", length=5, pad=2)


def test_prompts_are_marked_and_filled_up(prompts: PromptTokenizer) -> None:
    ids = prompts.encode(["a red", "", "red apple blue"])
    assert ids.dtype == "int64"
    assert ids.tolist() == [[0, 4, 5, 1, 2], [0, 1, 2, 2, 2], [0, 5, 6, 3, 1]]


def test_long_prompts_are_cut_before_the_end_mark(prompts: PromptTokenizer) -> None:
    assert prompts.encode(["a red apple a red apple"]).tolist() == [[0, 4, 5, 6, 1]]


def test_no_prompts_give_no_rows(prompts: PromptTokenizer) -> None:
    assert prompts.encode([]).shape == (0, 5)


def test_what_is_no_text_is_refused(prompts: PromptTokenizer) -> None:
    with pytest.raises(InputError, match="found 7"):
        prompts.encode([7])  # type: ignore[list-item]
    with pytest.raises(InputError, match="Unicode"):
        prompts.encode(["\ud800"])


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"version": "1.0", "model": {}}'])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(BundleError, match="no usable tokenizer"):
        PromptTokenizer(path, 5, 2).encode(["a"])


def test_a_length_that_leaves_no_room_is_refused(prompts: PromptTokenizer) -> None:
    with pytest.raises(BundleError, match="no room beside 2 marks"):
        PromptTokenizer(prompts.path, 2, 2).encode(["a"])


def test_a_token_of_several_vectors_is_written_out_and_others_are_not() -> None:
    several = of_several_vectors({"<s>", "<s>_1", "<s>_2", "<s>_4", "<one>", "<two>_1"})
    assert several == {"<s>": "<s> <s>_1 <s>_2"}
    spelled = spell_out("a <s> <one> <s>", ["a</w>", "<s>", "<one>", "<s>"], several)
    assert spelled == "a <s> <s>_1 <s>_2 <one> <s> <s>_1 <s>_2"
