"""Files that are no protobuf messages, or not such as are read in one way alone."""

from __future__ import annotations

from collections.abc import Callable

Rewrite = Callable[[bytes], bytes]

CUT = "the file is cut"
NUMBER = "more bytes than it needs"
NO_FIELD = "which no engine of ours has"

BYTES: dict[str, tuple[str, Rewrite]] = {
    "empty": ("no graph in it", lambda good: b""),
    "text": (NO_FIELD, lambda good: b"no model"),
    "zeros": (NO_FIELD, lambda good: bytes(100)),
    "half": (CUT, lambda good: good[: len(good) // 2]),
    "cut-in-a-number": (CUT, lambda good: good + b"\x28\x80"),
    "cut-in-a-tag": (CUT, lambda good: good + b"\xa0"),
    "length-of-exabytes": (CUT, lambda good: good + b"\x22" + b"\xff" * 8 + b"\x7f"),
    "number-of-eleven-bytes": (NUMBER, lambda good: good + b"\x28" + b"\x81" * 10 + b"\x01"),
    "number-of-seventy-bits": (NUMBER, lambda good: good + b"\x28" + b"\x81" * 9 + b"\x7f"),
    "number-with-padding": (NUMBER, lambda good: good + b"\x28\x81\x00"),
    "tag-with-padding": (NUMBER, lambda good: good + b"\xa8\x00\x01"),
    "group": (NO_FIELD, lambda good: good + b"\x2b\x2c"),
    "deep-groups": (NO_FIELD, lambda good: good + b"\x3b" * 10_000),
    "field-zero": (NO_FIELD, lambda good: good + b"\x02\x00"),
    "unknown-field": (NO_FIELD, lambda good: good + b"\xfa\x3f\x00"),
    "version-as-text": (NO_FIELD, lambda good: good + b"\x2a\x01\x31"),
    "two-graphs": ("has its graph twice", lambda good: good + b"\x3a\x00"),
    "two-versions": ("has its ir_version twice", lambda good: good + b"\x08\x0a"),
}
