"""What can go wrong in the runtime.

KeepstepError                 anything that a user can mend; its text says what was found,
│                             what was expected, where, and the way out
├── BundleError               a bundle or plan breaks a rule of docs/plan-format.md
├── InputError                an array, name or text given to a player does not fit its plan
├── BackendError              a backend is not installed, not built for, or has no device
└── ResultError               a run gave numbers that mean nothing: NaN or infinity

A fault of keepstep itself is never one of these: it stays a plain Python exception with its
traceback, because that is what we need to see to repair it.
"""

from __future__ import annotations


class KeepstepError(Exception):
    """Something that the user can mend; the message says how."""


class BundleError(KeepstepError):
    """A bundle or plan breaks rule `rule` of docs/plan-format.md (0: it cannot be read at all)."""

    def __init__(self, rule: int, message: str) -> None:
        super().__init__(f"{message} (rule {rule})" if rule else message)
        self.rule = rule


class InputError(KeepstepError):
    """What was given to a player does not fit its plan."""


class BackendError(KeepstepError):
    """A backend cannot run here: not installed, not in this bundle, or no device."""


class ResultError(KeepstepError):
    """A run gave NaN or infinity; the message names the first stage that did."""
