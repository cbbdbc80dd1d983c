"""Prompts as token ids. Needs the package `tokenizers`, and only when a prompt is encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from keepstep.runtime.errors import BackendError, BundleError, InputError
from keepstep.runtime.wording import shown


@dataclass(frozen=True)
class PromptTokenizer:
    """A tokenizer and the fixed length of its prompts."""

    path: Path  # of a tokenizer.json
    length: int  # ids a prompt
    pad: int  # the id that fills a prompt up

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Give int64 ids, shape (len(texts), length).

        Long texts are cut as CLIP does it: the marks at the beginning and the end stay. Raises
        `InputError` for what is no text.
        """
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"expected a text to encode, found {shown(text)}")
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InputError(f"prompt {shown(text)} is no Unicode text: {error}") from error
        found = self._tokenizer.encode_batch(list(texts))
        ids = np.full((len(texts), self.length), self.pad, np.int64)
        for row, encoding in zip(ids, found, strict=True):
            row[: len(encoding.ids)] = encoding.ids[: self.length]
        return ids

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
            tokenizer = Tokenizer.from_file(str(self.path))
            tokenizer.no_padding()
            tokenizer.enable_truncation(max_length=self.length)
        except Exception as error:  # the package raises no narrower type
            raise BundleError(0, f"{self.path}: no usable tokenizer: {error}") from error
        marks = tokenizer.num_special_tokens_to_add(False)
        if self.length <= marks:
            raise BundleError(
                0, f"{self.path}: {self.length} ids a prompt leave no room beside {marks} marks"
            )
        return tokenizer
