"""What TensorRT's parser and builder say, as errors that name the node and the way out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from keepstep.runtime.quoting import escape, quote

from ..errors import ExportError

_MOST = 5  # messages told; one fault often has many
_LONGEST = 400  # characters of one
# The library says this after every error where it finds no GPU, whatever the error was.
_NOISE = "catchCudaError"
_WAYS_OUT = {  # part of a message, in lower case → the way out, in place of the general one
    "k exceeds the maximum value allowed": (
        "a smaller picture, or a schedule with another ratio, selects fewer tokens"
    ),
    "sm75": "leave compute capability 7.5 out, or export in float16",
    "outofmemory": "a smaller picture or batch, or float16, needs less memory",
}
_WAY_OUT = "choose another backend, such as onnxruntime"


def parser_error(stage: str, library: str, errors: Sequence[Any]) -> ExportError:
    """From the parser's errors (`ParserError` of the library), one a node."""
    return _error(stage, library, "cannot read", [_told(error) for error in errors])


def build_error(stage: str, library: str, logged: Iterable[str]) -> ExportError:
    """From what the builder logged as errors; it names nodes in its messages."""
    return _error(stage, library, "cannot build", [_one_line(message) for message in logged])


def _error(stage: str, library: str, verb: str, messages: list[str]) -> ExportError:
    told = list(dict.fromkeys(message for message in messages if message))
    text = "; ".join(told[:_MOST]) or "no reason is given"
    more = f"; and {len(told) - _MOST} more" if len(told) > _MOST else ""
    ways = [way for part, way in _WAYS_OUT.items() if part in text.lower()]
    return ExportError(
        f"{library} {verb} stage {quote(stage)}: {text}{more}: {'; '.join(ways) or _WAY_OUT}"
    )


def _told(error: Any) -> str:
    operator = error.node_operator()  # empty when the parser lost sight of the node
    place = f"{escape(operator)} node {quote(error.node_name())}" if operator else error.func()
    reason = error.code().name.lower().replace("_", " ")
    description = _one_line(error.desc())
    return f"{place}: {reason}" + (f" ({description})" if description != "false" else "")


def _one_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if _NOISE not in line]
    text = ", ".join(line for line in lines if line)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
