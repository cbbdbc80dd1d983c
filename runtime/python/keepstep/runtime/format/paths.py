"""Paths inside a bundle: rule 3 of docs/plan-format.md."""

from __future__ import annotations

import re

_DRIVE = re.compile(r"[A-Za-z]:")


def path_fault(path: str) -> str | None:
    """Say what keeps `path` from being a plain relative path, or None when nothing does."""
    if "\0" in path:
        return "contains a NUL"
    if "\\" in path:
        return "contains a backslash; use '/'"
    if path.startswith("/"):
        return "is absolute; paths are relative to the bundle"
    if _DRIVE.match(path):
        return "has a drive letter; paths are relative to the bundle"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return f"has the part {part!r}; paths go straight down from the bundle"
    return None
