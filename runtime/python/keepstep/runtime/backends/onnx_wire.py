"""Protobuf's wire format: the fields of a message, each found and none copied.

Only what an ONNX file of ours is made of: no groups, no numbers of 64 fixed bits, no padding.
Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

VARINT, BYTES, FIXED32 = 0, 2, 5
_MOST_BITS = 64
_MANY = "*"  # behind the name of a field that may come again and again
_MOST_AGAIN = 4096  # times; fields of a graph, which come more often, are not read by `Message`


class OnnxError(ValueError):
    """A file is not the ONNX code of a stage; the text says where and why."""


class Message:
    """What fields a kind of message may have; any other is refused."""

    def __init__(
        self,
        name: str,
        *,
        spans: Mapping[str, int] | None = None,
        varints: Mapping[str, int] | None = None,
        fixed: Mapping[str, int] | None = None,
    ) -> None:
        """Field numbers by name: of texts and messages, of integers, and of float32.

        A `*` behind a name: the field may come again and again.
        """
        self.name = name
        self._known = {
            number << 3 | wire: (field.rstrip(_MANY), field.endswith(_MANY))
            for wire, fields in ((BYTES, spans), (VARINT, varints), (FIXED32, fixed))
            for field, number in (fields or {}).items()
        }

    def fields(self, data: bytes, at: int, end: int) -> Iterator[tuple[str, Any]]:
        """Each field of the message data[at:end] in order: its name and its value.

        A value is an int of 64 bits without sign, or the span (begin, end) of a text, a message
        or a float. Raises `OnnxError`.
        """
        known = self._known
        once = set()
        while at < end:
            tag, at = _varint(data, at, end)
            if tag not in known:
                raise OnnxError(
                    f"a {self.name} has field {tag >> 3} in wire type {tag & 7}, which no engine "
                    "of ours has"
                )
            name, many = known[tag]
            if not many:
                if name in once:
                    raise OnnxError(f"a {self.name} has its {name} twice")
                once.add(name)
            if tag & 7 == VARINT:
                value, at = _varint(data, at, end)
                yield name, value
                continue
            length, at = _varint(data, at, end) if tag & 7 == BYTES else (4, at)
            if length > end - at:
                raise OnnxError(f"the {name} of a {self.name} ends behind it: the file is cut")
            yield name, (at, at + length)
            at += length

    def read(self, data: bytes, span: tuple[int, int]) -> dict[str, Any]:
        """All fields of a message by name; those that may come again in lists."""
        found: dict[str, Any] = {name: [] for name, many in self._known.values() if many}
        for name, value in self.fields(data, *span):
            if name not in found:
                found[name] = value
            elif len(found[name]) < _MOST_AGAIN:
                found[name].append(value)
            else:
                raise OnnxError(f"a {self.name} has more than {_MOST_AGAIN} of {name}")
        return found


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """An integer of 64 bits without sign, and where it ends."""
    if at < end and data[at] < 0x80:  # most are this short
        return data[at], at + 1
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if byte == 0 or value >> _MOST_BITS:
                break
            return value, at
        if shift > _MOST_BITS:
            break
    else:
        raise OnnxError("a number ends behind its message: the file is cut")
    raise OnnxError("a number has more bytes than it needs, or more than 64 bits")
