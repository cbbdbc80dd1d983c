"""How names and values are quoted in error messages.

What is quoted may come from a hostile file: it is escaped and cut, so that a message stays one
readable line whatever the file holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from itertools import islice

_LONGEST = 80  # characters of a quoted value
_LONGEST_TOLD = 400  # characters of another library's message
_MOST_NAMES = 12  # names in a list
_SEARCHED_NAMES = 1000  # looking for a close match costs time per name


def quote(value: object) -> str:
    """Quote a value, escaped and cut."""
    text = ascii(value[: _LONGEST + 1] if isinstance(value, str) else value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2]}…{text[-1]}"


def escape(name: str) -> str:
    """Write a name without quotes, escaped and cut, as a part of a place."""
    return quote(name)[1:-1]


def sanitize(error: object) -> str:
    """What another library says, as one printable line: cut, blanks for what cannot be printed."""
    text = str(error)
    line = "".join(c if c.isprintable() else " " for c in text[:_LONGEST_TOLD])
    return f"{line}…" if len(text) > _LONGEST_TOLD else line


def quote_names(names: Iterable[str]) -> str:
    """Quote names with commas between; the first dozen of them."""
    names = list(islice(names, _MOST_NAMES + 1))
    text = ", ".join(quote(name) for name in names[:_MOST_NAMES])
    return (text or "none") + (", …" if len(names) > _MOST_NAMES else "")


def did_you_mean(name: str, known: Collection[str]) -> str:
    """` (did you mean 'x'?)` when a known name is close to `name`, else nothing."""
    close = get_close_matches(name[:200], list(islice(known, _SEARCHED_NAMES)), n=1)
    return f" (did you mean {quote(close[0])}?)" if close else ""
