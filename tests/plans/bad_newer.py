"""Plans that break rules 8 to 16 with what format 1 has not: defaults, and outputs in place."""

from __future__ import annotations

from plans.edits import Mutation, both, drop, put
from plans.in_place import in_place
from plans.toy import tensor
from plans.valid import every_dtype, scalars

NEWER: dict[str, Mutation] = {
    "08-default-at-feed": put("values", "prompt_embeds", "default", 0),
    "08-default-at-output": put("values", "latents", "default", 0),
    "08-default-at-state": put("values", "history", "default", 0),
    "08-default-at-constant": put("values", "coef", "default", 0),
    "08-default-of-too-few-numbers": put("values", "noise", "default", [0, 0, 0]),
    "08-default-of-too-many-numbers": put("values", "noise", "default", [0] * 5),
    "08-default-of-all-rows": both(
        put("values", "noise", "shape", [2, 4]), put("values", "noise", "default", [0] * 8)
    ),
    "08-default-list-of-a-scalar": both(scalars, put("values", "guidance_scale", "default", [1])),
    "08-default-is-true-for-a-float": put("values", "noise", "default", True),
    "08-default-with-a-bool-among-ints": put("values", "token_ids", "default", [0, 1, True, 0]),
    "08-default-of-a-number-for-bool": both(every_dtype, put("values", "bool", "default", 1)),
    "08-default-with-a-number-for-bool": both(
        every_dtype, put("values", "bool", "default", [True, 0, True])
    ),
    "08-default-is-a-fraction-for-ints": put("values", "token_ids", "default", 0.5),
    "08-default-has-a-fraction-for-ints": put("values", "token_ids", "default", [1, 2, 2.5, 3]),
    "08-default-beyond-2-to-53": put("values", "token_ids", "default", 2**53 + 2),
    "08-default-beyond-64-bits": put("values", "token_ids", "default", -(2**70)),
    "08-default-beyond-float32": put("values", "noise", "default", 3.5e38),
    "08-default-beyond-float16": both(every_dtype, put("values", "float16", "default", -65505)),
    "08-default-beyond-bfloat16": both(every_dtype, put("values", "bfloat16", "default", 3.4e38)),
    "08-default-beyond-int32": both(every_dtype, put("values", "int32", "default", [0, 0, 2**31])),
    "08-default-beyond-uint8": both(every_dtype, put("values", "uint8", "default", -1)),
    "08-default-below-the-range": both(
        put("values", "noise", "range", [0, 1]), put("values", "noise", "default", -0.001)
    ),
    "08-default-above-the-range": both(
        put("values", "token_ids", "range", [0, 6]),
        put("values", "token_ids", "default", [0, 6, 7, 0]),
    ),
    "12-in-place-of-no-output": in_place({"caches": "cache"}),
    "12-in-place-of-no-input": in_place({"cache_new": "caches"}),
    "12-in-place-of-a-weight": both(
        in_place({"cache_new": "kernel"}), put("stages", "write", "weights", {"kernel": "kernel"})
    ),
    "12-in-place-of-an-output": in_place({"cache_new": "cache_new"}),
    "12-in-place-of-another-shape": in_place({"cache_new": "row"}),
    "12-in-place-of-another-dtype": both(
        in_place({"cache_new": "ids"}),
        put("stages", "write", "inputs", "ids", tensor("int32", 2, 4)),
        put("values", "ids", {"kind": "input", **tensor("int32", 2, 4), "offset": 2304}),
        put("arena_bytes", 2560),
        put("calls", 5, "reads", "ids", "ids"),
        put("calls", 6, "reads", "ids", "ids"),
    ),
    "12-in-place-of-one-input-twice": both(
        in_place({"cache_new": "cache", "twin": "cache"}),
        put("stages", "write", "outputs", "twin", tensor("float32", 2, 4)),
        put("calls", 5, "writes", "twin", ["kv", 0]),
        put("calls", 6, "writes", "twin", ["kv", 2]),
    ),
    "12-in-place-in-another-row": both(
        in_place(), put("calls", 5, "writes", "cache_new", ["kv", 1])
    ),
    "12-in-place-in-another-value": both(
        in_place(), put("calls", 6, "writes", "cache_new", ["other", 2])
    ),
    "12-in-place-whole-and-from-row-0": both(
        in_place(),
        put("values", "kv", "shape", [2, 4]),
        put("calls", 4, "writes", "kv", "kv"),
        put("stages", "begin", "outputs", "kv", "shape", [2, 4]),
        put("calls", 5, "writes", "cache_new", "kv"),
        drop("calls", 6),
    ),
    "13-input-is-written-in-place": both(in_place(), put("values", "kv", "kind", "input")),
    "14-in-place-not-declared": both(in_place(), drop("stages", "write", "in_place")),
    "14-in-place-of-another-input": both(
        in_place({"cache_new": "spare"}),
        put("stages", "write", "inputs", "spare", tensor("float32", 2, 4)),
        put("calls", 5, "reads", "spare", ["kv", 0]),
        put("calls", 6, "reads", "spare", ["kv", 2]),
    ),
    "14-in-place-and-read-by-another-input": both(
        in_place(), put("calls", 5, "reads", "row", ["kv", 1])
    ),
    "14-in-place-and-written-by-another-output": both(
        in_place(),
        put("stages", "write", "outputs", "twin", tensor("float32", 1, 4)),
        put("calls", 5, "writes", "twin", ["kv", 1]),
        put("calls", 6, "writes", "twin", ["kv", 3]),
    ),
    "14-in-place-and-under-another-name": both(
        in_place(),
        put("values", "row", {"kind": "input", **tensor("float32", 1, 4), "offset": 1792}),
    ),
    "15-in-place-before-it-is-written": both(
        in_place(), put("values", "kv", "kind", "scratch"), put("calls", 4, "writes", "kv", "other")
    ),
    "16-state-in-place-before-it-is-written": both(
        in_place(), put("calls", 4, "writes", "kv", "other")
    ),
}
