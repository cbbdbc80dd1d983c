"""A T5 tokenizer that knows the captions' words whole, and any other word by its letters."""

from __future__ import annotations

import string

from transformers import T5TokenizerFast

from recipe.attributes import all_captions
from recipe.settings import TEXT_LENGTH

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
SPACE = "▁"  # begins each word, as SentencePiece writes it
# Log probabilities of a unigram model: a word is always better whole than in letters.
WORD_SCORE, LETTER_SCORE = -4.0, -10.0


def make() -> T5TokenizerFast:
    """Ids from 0: T5's three special tokens, words, letters."""
    words = sorted({word for text in all_captions() for word in text.replace(",", " ").split()})
    pieces = [SPACE + word for word in words]
    letters = [SPACE, *string.ascii_letters, *string.digits, *string.punctuation]
    tokenizer = T5TokenizerFast(
        vocab=[
            *((special, 0.0) for special in (PAD, END, UNKNOWN)),
            *((piece, WORD_SCORE) for piece in pieces),
            *((letter, LETTER_SCORE) for letter in letters),
        ],
        extra_ids=0,
        model_max_length=TEXT_LENGTH,
        clean_up_tokenization_spaces=False,
    )
    # Stored in tokenizer.json, so that the tokenizers package alone gives full rows of ids.
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(TEXT_LENGTH)
    backend.enable_padding(pad_id=0, pad_token=PAD, length=TEXT_LENGTH)
    return tokenizer
