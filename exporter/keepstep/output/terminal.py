"""What the command says, on two streams: nothing that it quotes is taken for a command or a style.

Paths, names and messages of other libraries may hold escapes that act on a terminal, `[red]` or
`:smile:`. Whatever is printed passes one of these consoles, which take a string as it is.
"""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.text import Text

_LONGEST = 2000  # characters of a message; ours are shorter


class Terminal(Console):
    """Writes strings as they are: no markup, no names of emoji, no control characters."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, *arguments: Any, **options: Any) -> Text:
        """A string as what is printed, wherever it stands: in a line, a table, a title."""
        return super().render_str(printable(text), *arguments, **options)


out = Terminal()
err = Terminal(stderr=True)


def say(text: str, style: str = "") -> None:
    """One line of a result, however long."""
    out.print(_one_line(text), style=style, soft_wrap=True)


def complain(message: str) -> None:
    """One line on the error stream, cut where another library had much to say."""
    line = _one_line(message)
    cut = line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
    err.print(Text.assemble(("keepstep:", "bold red"), " ", printable(cut)), soft_wrap=True)


def wide(least: int = 130) -> Terminal:
    """Wider than a small window: a line that goes on below it is better than cut numbers."""
    return Terminal(width=max(out.width, least))


def printable(text: str) -> str:
    r"""Text without characters that act on a terminal or hide: an ESC becomes `\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def words(text: str, style: str = "") -> Text:
    """Styled text for a table; `Text` alone would not be looked through."""
    return Text(printable(text), style=style)


def _one_line(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text.strip())


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
