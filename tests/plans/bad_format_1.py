"""Plans that break a rule of format 1: what each has that the toy plan, as format 1, has not."""

from __future__ import annotations

from plans.edits import Mutation, both, drop, put
from plans.toy import as_format_1

FORMAT_1: dict[str, Mutation] = {
    # what format 1 does not know
    "01-format-1-label": put("keepstep", 1),
    "01-format-1-in-place": both(
        as_format_1, put("stages", "decode", "in_place", {"image": "latents"})
    ),
    "01-format-1-default": both(as_format_1, put("values", "noise", "default", 0)),
    # where it is stricter
    "14-format-1-call-writes-what-it-reads": both(
        as_format_1, put("calls", 2, "writes", "prediction", ["history", 1])
    ),
    "19-format-1-unknown-step-kind": both(as_format_1, put("steps", 1, "kind", "cached")),
    "19-format-1-empty-step-kind": both(as_format_1, put("steps", 1, "kind", "")),
    "19-format-1-kept-is-zero": both(as_format_1, put("steps", 0, "kept", 0)),
    "19-format-1-step-behind-the-end": both(as_format_1, put("calls", 2, "step", 3)),
    "19-format-1-steps-fall": both(
        as_format_1, put("calls", 1, "step", 2), put("calls", 2, "step", 0)
    ),
    "19-format-1-skip-has-a-call": both(as_format_1, put("steps", 2, "kind", "skip")),
    "19-format-1-full-has-no-call": both(as_format_1, put("steps", 1, "kind", "full")),
    "19-format-1-shallow-has-no-call": both(as_format_1, drop("calls", 2, "step")),
    "19-format-1-step-has-two-calls": both(as_format_1, put("calls", 3, "step", 2)),
}
