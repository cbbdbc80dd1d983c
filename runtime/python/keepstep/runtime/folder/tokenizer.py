"""Prompts as token ids. Needs the package `tokenizers`, and only when a prompt is encoded.

A token that textual inversion has taught to a model may have several vectors. They are tokens of
their own, `<style>`, `<style>_1`, `<style>_2`, …, and a prompt that says `<style>` means all of
them; diffusers writes them out before it tokenizes (`maybe_convert_prompt`), and so does this.
Source: Gal et al., "An Image is Worth One Word", arXiv:2208.01618.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from keepstep.runtime.errors import BackendError, BundleError, InputError
from keepstep.runtime.quoting import quote, sanitize


@dataclass(frozen=True)
class PromptTokenizer:
    """A tokenizer and the fixed length of its prompts."""

    place: str  # its file, for messages
    json: bytes = field(repr=False)  # the content of a tokenizer.json
    length: int  # ids a prompt
    pad: int  # the id that fills a prompt up

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Give int64 ids, shape (len(texts), length).

        Long texts are cut as CLIP does it: the marks at the beginning and the end stay. Raises
        `InputError` for what is no text.
        """
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"expected a text to encode, found {quote(text)}")
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InputError(f"prompt {quote(text)} is no Unicode text: {error}") from error
        found = self._tokenizer.encode_batch(list(texts))
        if self._several:
            spelled = [
                spell_out(text, encoding.tokens, self._several)
                for text, encoding in zip(texts, found, strict=True)
            ]
            found = self._tokenizer.encode_batch(spelled)
        ids = np.full((len(texts), self.length), self.pad, np.int64)
        for row, encoding in zip(ids, found, strict=True):
            row[: len(encoding.ids)] = encoding.ids[: self.length]
        return ids

    @cached_property
    def _several(self) -> Mapping[str, str]:
        added = self._tokenizer.get_added_tokens_decoder().values()
        return of_several_vectors({token.content for token in added})

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise BackendError(
                "encoding a prompt needs the package tokenizers: pip install tokenizers, "
                "or give token ids"
            ) from error
        try:
            tokenizer = Tokenizer.from_buffer(self.json)
            tokenizer.no_padding()
            tokenizer.enable_truncation(max_length=self.length)
        except Exception as error:  # the package raises no narrower type
            raise BundleError(0, f"{self.place}: no usable tokenizer: {sanitize(error)}") from error
        marks = tokenizer.num_special_tokens_to_add(False)
        if self.length <= marks:
            raise BundleError(
                0, f"{self.place}: {self.length} ids a prompt leave no room beside {marks} marks"
            )
        return tokenizer


def of_several_vectors(added: AbstractSet[str]) -> dict[str, str]:
    """Each added token that has several vectors → all of them, written out."""
    several = {}
    for token in added:
        parts = [token]
        while (following := f"{token}_{len(parts)}") in added:
            parts.append(following)
        if len(parts) > 1:
            several[token] = " ".join(parts)
    return several


def spell_out(text: str, tokens: Sequence[str], several: Mapping[str, str]) -> str:
    """`text`, of which `tokens` were made, with all vectors of the tokens that have several."""
    for token in dict.fromkeys(tokens):
        text = text.replace(token, several.get(token, token))
    return text
