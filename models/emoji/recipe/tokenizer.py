"""A CLIP tokenizer whose byte-pair merges are learned from the captions."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from recipe.settings import TEXT_LENGTH

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


def train(captions: Iterable[str], vocabulary: int) -> CLIPTokenizer:
    """CLIP's own normalisation, word splitting and special tokens, with new merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # As in CLIP, each byte is a token twice, inside a word and at its end, so that nothing that a
    # person types is unknown.
    vocab = {token: i for i, token in enumerate(alphabet + [c + WORD_END for c in alphabet])}
    merges = _merges(captions, alphabet, vocabulary - len(vocab) - 2)
    for first, second in merges:
        vocab.setdefault(first + second, len(vocab))
    for special in (START, END):
        vocab[special] = len(vocab)
    tokenizer = CLIPTokenizer(
        vocab=vocab,
        merges=merges,
        model_max_length=TEXT_LENGTH,
        clean_up_tokenization_spaces=False,
    )
    # Stored in tokenizer.json, so that the tokenizers package alone gives full rows of ids.
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(TEXT_LENGTH)
    backend.enable_padding(pad_id=vocab[END], pad_token=END, length=TEXT_LENGTH)
    return tokenizer


def _merges(captions: Iterable[str], alphabet: list[str], count: int) -> list[tuple[str, str]]:
    pattern = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    learner.normalizer = pattern.normalizer
    learner.pre_tokenizer = pattern.pre_tokenizer
    trainer = trainers.BpeTrainer(
        # The trainer counts the letters it sees at the end of a word too; leave room for them.
        vocab_size=count + 2 * len(alphabet),
        initial_alphabet=alphabet,
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    found = json.loads(learner.to_str())["model"]["merges"]
    return [(first, second) for first, second in found][:count]
