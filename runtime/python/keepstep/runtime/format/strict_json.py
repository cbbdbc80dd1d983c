"""JSON read strictly: rule 1 of docs/plan-format.md, without knowing what the fields mean.

`load` gives a `Node`, whose methods hand out values of one type each and refuse every other with
the place where it stands, such as `plans/x.json: calls[3].reads: expected an object, found 7`.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from keepstep.runtime.errors import BundleError
from keepstep.runtime.quoting import did_you_mean, escape, quote, quote_names

MAX_BYTES = 64 * 2**20
MAX_DEPTH = 16
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
MAX_INT = 2**53  # the largest up to which every JSON reader has every integer


class Node:
    """A JSON value and the place where it stands."""

    __slots__ = ("_key", "_parent", "_value")

    def __init__(self, value: Any, key: str | int, parent: Node | None = None) -> None:
        self._value = value
        self._key = key
        self._parent = parent

    @property
    def place(self) -> str:
        """The path from the root, as `calls[3].reads`."""
        if self._parent is None:
            return f"{self._key}: "
        before = self._parent.place
        if isinstance(self._key, int):
            return f"{before}[{self._key}]"
        return f"{before}{'' if before.endswith(': ') else '.'}{escape(self._key)}"

    def refuse(self, message: str, rule: int = 1) -> NoReturn:
        """Raise a `BundleError` that names this place."""
        place = self.place
        raise BundleError(rule, place + ("" if place.endswith(": ") else ": ") + message)

    def expected(self, what: str) -> NoReturn:
        """Raise a `BundleError` that says what was expected here, and what was found."""
        self.refuse(f"expected {what}, found {_described(self._value)}")

    @property
    def is_null(self) -> bool:
        """Whether this is `null`."""
        return self._value is None

    @property
    def is_text(self) -> bool:
        """Whether this is a string."""
        return isinstance(self._value, str)

    @property
    def is_list(self) -> bool:
        """Whether this is a list."""
        return isinstance(self._value, list)

    @property
    def is_boolean(self) -> bool:
        """Whether this is `true` or `false`."""
        return isinstance(self._value, bool)

    def text(self) -> str:
        """Give a string."""
        if not isinstance(self._value, str):
            self.expected("a string")
        return self._value

    def integer(self) -> int:
        """Give an int in 0 … 2⁵³; `true` and `1.0` are none."""
        value = self._value
        if type(value) is not int or not 0 <= value <= MAX_INT:
            self.expected("an int in 0 … 2⁵³")
        return value

    def boolean(self) -> bool:
        """Give `true` or `false`."""
        if not isinstance(self._value, bool):
            self.expected("true or false")
        return self._value

    def number(self) -> float:
        """Give a finite number."""
        value = self._value
        if type(value) not in (int, float) or not math.isfinite(value):
            self.expected("a finite number")
        return float(value)

    def items(self) -> Iterator[tuple[str, Node]]:
        """Give the members of an object whose keys are names."""
        for key, value in self._object().items():
            yield key, Node(value, key, self)

    def elements(self) -> Iterator[Node]:
        """Give the elements of a list."""
        if not isinstance(self._value, list):
            self.expected("a list")
        for index, value in enumerate(self._value):
            yield Node(value, index, self)

    def member(self, key: str) -> Node:
        """Give one member of an object, which must be there."""
        members = self._object()
        if key not in members:
            self.refuse(f"field {quote(key)} is missing")
        return Node(members[key], key, self)

    def fields(self, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Node]:
        """Give the members of an object that has all `required` fields and no unknown one."""
        members = self._object()
        missing = [key for key in required if key not in members]
        known = required + optional
        for key in members:
            if key not in known:
                hint = did_you_mean(key, missing or known)
                self.refuse(f"unknown field {quote(key)}{hint}; known: {quote_names(known)}")
        if missing:
            self.refuse(f"field {quote(missing[0])} is missing")
        return {key: Node(value, key, self) for key, value in members.items()}

    def _object(self) -> dict[str, Any]:
        if not isinstance(self._value, dict):
            self.expected("an object")
        return self._value

    def refuse_half_pairs(self) -> None:
        """Refuse strings, and keys of objects, that hold half of a surrogate pair."""
        if isinstance(self._value, str):
            self._refuse_half_pair(self._value)
        elif isinstance(self._value, dict):
            for key, member in self.items():
                self._refuse_half_pair(key)
                member.refuse_half_pairs()
        elif isinstance(self._value, list):
            for element in self.elements():
                element.refuse_half_pairs()

    def _refuse_half_pair(self, text: str) -> None:
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                self.refuse(f"{quote(text)} is no Unicode text: half of a surrogate pair")


def load(text: str | bytes, where: str) -> Node:
    """Parse one JSON object; `where` is the file's name for messages.

    Raises `BundleError` (rule 1) for what is too large, nested too deep or no JSON object, for
    keys that repeat, and for halves of surrogate pairs.
    """
    root = Node(None, where)
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    if len(data) > MAX_BYTES:
        root.refuse(f"{len(data)} bytes of JSON, expected at most {MAX_BYTES} (64 MiB)")
    if (depth := _depth(data)) > MAX_DEPTH:
        root.refuse(f"JSON nested {depth} deep, expected at most {MAX_DEPTH}")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            repeated, _ = Counter(key for key, _ in pairs).most_common(1)[0]
            root.refuse(f"key {quote(repeated)} appears twice in one object")
        return members

    def not_json(literal: str) -> NoReturn:
        root.refuse(f"{literal} is not JSON; expected a finite number")

    try:
        value = json.loads(
            data.decode(), object_pairs_hook=unique, parse_int=_int, parse_constant=not_json
        )
    except UnicodeDecodeError as error:
        root.refuse(f"not UTF-8 at byte {error.start}")
    except json.JSONDecodeError as error:
        cut = "; the file is cut short" if error.pos >= len(error.doc.rstrip()) else ""
        root.refuse(f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}{cut}")
    if not isinstance(value, dict):
        root.refuse(f"expected one JSON object, found {_described(value)}")
    parsed = Node(value, where)
    if _ESCAPED_SURROGATE.search(data):  # in UTF-8 there is no other way to write one
        parsed.refuse_half_pairs()
    return parsed


def _int(digits: str) -> int | float:
    """Read an int; beyond 64 bits as a float, so that no reader spends its time on digits."""
    return int(digits) if len(digits) <= 20 else float(digits)


def _depth(data: bytes) -> int:
    """How deep brackets nest outside strings, found before a recursive parser meets them.

    Exact for any prefix that is valid JSON, and a parser stops where that ends.
    """
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")  # so that each quote opens or closes
    chars = np.frombuffer(plain, np.uint8)
    in_string = np.bitwise_xor.accumulate(chars == ord('"'))
    lower = chars & ~np.uint8(0x20)  # '[' and '{' differ in one bit, and so do ']' and '}'
    brackets = lower[((lower == ord("[")) | (lower == ord("]"))) & ~in_string]
    steps = np.where(brackets == ord("["), 1, -1).astype(np.int8)
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _described(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else quote(value)
