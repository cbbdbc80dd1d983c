from __future__ import annotations

import pytest
from runtime.toy_bundle import tokenizer

from keepstep.runtime.errors import BundleError, InputError
from keepstep.runtime.folder.tokenizer import PromptTokenizer, of_several_vectors, spell_out


@pytest.fixture
def prompts() -> PromptTokenizer:
    return PromptTokenizer("x", tokenizer().to_str().encode(), length=5, pad=2)


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
def test_a_file_that_is_no_tokenizer_is_refused(content: str) -> None:
    with pytest.raises(BundleError, match="x: no usable tokenizer"):
        PromptTokenizer("x", content.encode(), 5, 2).encode(["a"])


def test_what_the_package_says_of_a_file_is_cut() -> None:
    content = tokenizer().to_str().replace('"apple"', '"' + "apple" * 1000 + '\\u001b"')
    content = content.replace('"WordLevel"', '"' + "Word" * 1000 + '"')
    with pytest.raises(BundleError) as caught:
        PromptTokenizer("x", content.encode(), 5, 2).encode(["a"])
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_a_length_that_leaves_no_room_is_refused(prompts: PromptTokenizer) -> None:
    with pytest.raises(BundleError, match="no room beside 2 marks"):
        PromptTokenizer("x", prompts.json, 2, 2).encode(["a"])


def test_a_token_of_several_vectors_is_written_out_and_others_are_not() -> None:
    several = of_several_vectors({"<s>", "<s>_1", "<s>_2", "<s>_4", "<one>", "<two>_1"})
    assert several == {"<s>": "<s> <s>_1 <s>_2"}
    spelled = spell_out("a <s> <one> <s>", ["a</w>", "<s>", "<one>", "<s>"], several)
    assert spelled == "a <s> <s>_1 <s>_2 <one> <s> <s>_1 <s>_2"
