"""A good schedule file, for tests to change."""

from __future__ import annotations

HEAD = """
keepstep: 1
name: mine
sampler: {scheduler: DDIMScheduler, steps: 4}
cache: {branch: 0}
prune: {ratio: 0.25, patch: 4, gamma: 2.0}
"""


def with_calls(calls: str) -> str:
    return f"{HEAD}calls: {calls}\n"
