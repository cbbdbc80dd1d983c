"""Plans that break rule 1 or 2: what each file has that the toy plan has not."""

from __future__ import annotations

from collections.abc import Callable

from plans.edits import Mutation, both, drop, put

GRAMMAR: dict[str, Mutation] = {
    # 1: grammar
    "01-missing-plan-field": drop("arena_bytes"),
    "01-missing-version": drop("keepstep"),
    "01-missing-value-field": drop("values", "noise", "dtype"),
    "01-missing-stage-field": drop("stages", "full", "weights"),
    "01-missing-tensor-field": drop("stages", "full", "inputs", "noise", "shape"),
    "01-missing-call-field": drop("calls", 0, "writes"),
    "01-missing-step-field": drop("steps", 0, "kept"),
    "01-unknown-plan-field": put("comment", "hello"),
    "01-unknown-value-field": put("values", "noise", "stride", [4, 1]),
    "01-unknown-stage-field": put("stages", "full", "flops", 32),
    "01-unknown-tensor-field": put("stages", "full", "inputs", "noise", "layout", "nchw"),
    "01-unknown-call-field": put("calls", 0, "when", 1),
    "01-unknown-step-field": put("steps", 0, "sigma", 1.0),
    "01-version-is-a-string": put("keepstep", "2"),
    "01-version-is-a-float": put("keepstep", 2.0),
    "01-version-is-true": put("keepstep", True),
    "01-name-is-a-number": put("name", 7),
    "01-int-is-true": put("arena_bytes", True),
    "01-int-is-a-float": put("arena_bytes", 1792.0),
    "01-int-is-a-string": put("values", "noise", "offset", "256"),
    "01-int-is-negative": put("values", "noise", "offset", -256),
    "01-int-is-null": put("values", "noise", "offset", None),
    "01-int-beyond-2-to-53": put("stages", "full", "macs", 2**53 + 1),
    "01-int-beyond-64-bits": put("stages", "full", "macs", 2**64 + 1),
    "01-int-of-400-digits": put("stages", "full", "macs", 10**400),
    "01-axis-is-a-float": put("values", "noise", "shape", [1.0, 4]),
    "01-axis-is-negative": put("values", "noise", "shape", [-1, 4]),
    "01-shape-is-a-number": put("values", "noise", "shape", 4),
    "01-shape-is-an-object": put("values", "noise", "shape", {"0": 1}),
    "01-feed-is-a-number": put("values", "prompt_embeds", "feed", 1),
    "01-feed-is-null": put("values", "prompt_embeds", "feed", None),
    "01-range-is-null": put("values", "token_ids", "range", None),
    "01-range-is-a-number": put("values", "token_ids", "range", 6),
    "01-range-is-empty": put("values", "token_ids", "range", []),
    "01-range-has-one-number": put("values", "token_ids", "range", [6]),
    "01-range-has-three-numbers": put("values", "token_ids", "range", [0, 3, 6]),
    "01-range-of-strings": put("values", "token_ids", "range", ["0", "6"]),
    "01-range-of-bools": put("values", "token_ids", "range", [False, True]),
    "01-range-to-a-number-beyond-double": put("values", "noise", "range", [0, 10**400]),
    "01-kind-is-null": put("values", "noise", "kind", None),
    "01-file-is-a-list": put("values", "coef", "file", ["plans/toy.safetensors"]),
    "01-values-is-a-list": put("values", []),
    "01-value-is-a-string": put("values", "noise", "float32"),
    "01-stages-is-null": put("stages", None),
    "01-stage-is-a-list": put("stages", "full", []),
    "01-engine-is-a-list": put("stages", "full", "engines", "onnxruntime", ["a"]),
    "01-weights-is-a-list": put("stages", "full", "weights", ["kernel"]),
    "01-weight-has-a-row": put("stages", "full", "weights", "kernel", ["kernel", 0]),
    "01-calls-is-an-object": put("calls", {}),
    "01-call-is-a-string": put("calls", 0, "text"),
    "01-reads-is-a-list": put("calls", 0, "reads", ["token_ids"]),
    "01-step-is-null": put("calls", 0, "step", None),
    "01-step-is-true": put("calls", 1, "step", True),
    "01-binding-is-a-number": put("calls", 1, "reads", "noise", 3),
    "01-binding-is-an-object": put("calls", 1, "reads", "noise", {"value": "noise"}),
    "01-binding-is-empty": put("calls", 1, "reads", "noise", []),
    "01-binding-has-three-parts": put("calls", 1, "reads", "history", ["history", 2, 2]),
    "01-binding-row-is-a-string": put("calls", 1, "reads", "history", ["history", "2"]),
    "01-binding-row-is-a-float": put("calls", 1, "reads", "history", ["history", 2.0]),
    "01-binding-row-is-negative": put("calls", 1, "reads", "history", ["history", -1]),
    "01-steps-is-a-string": put("steps", "F.s"),
    "01-timestep-is-a-string": put("steps", 0, "timestep", "999"),
    "01-timestep-is-true": put("steps", 0, "timestep", True),
    "01-timestep-of-400-digits": put("steps", 0, "timestep", 10**400),
    "01-kept-is-a-float": put("steps", 0, "kept", 12.0),
    "01-label-is-a-number": put("steps", 0, "label", 7),
    "01-label-is-missing": drop("steps", 0, "label"),
    "01-step-has-a-kind-and-a-label": put("steps", 0, "kind", "full"),
    "01-step-has-the-kind-of-format-1": both(
        drop("steps", 0, "label"), put("steps", 0, "kind", "full")
    ),
    "01-in-place-is-null": put("stages", "full", "in_place", None),
    "01-in-place-is-a-list": put("stages", "full", "in_place", ["prediction", "noise"]),
    "01-in-place-of-a-list": put("stages", "full", "in_place", {"prediction": ["noise"]}),
    "01-default-is-null": put("values", "noise", "default", None),
    "01-default-is-a-string": put("values", "noise", "default", "0"),
    "01-default-is-an-object": put("values", "noise", "default", {"all": 0}),
    "01-default-is-an-empty-list": put("values", "noise", "default", []),
    "01-default-of-strings": put("values", "noise", "default", ["0", "0", "0", "0"]),
    "01-default-of-lists": put("values", "noise", "default", [[0, 0, 0, 0]]),
    "01-default-with-a-null": put("values", "noise", "default", [0, 0, 0, None]),
    "01-default-beyond-double": put("values", "noise", "default", 10**400),
    "01-default-of-4097-numbers": put("values", "noise", "default", [0] * 4097),
    "01-half-of-a-surrogate-pair": put("name", "\ud800"),
    "01-half-of-a-surrogate-pair-in-a-newer-file": both(
        put("keepstep", 3), put("steps", 0, "timestep", ["\ud800"])
    ),
    # 2: version
    "02-newer": put("keepstep", 3),
    "02-newer-with-new-fields": both(put("keepstep", 4), put("graphs", []), drop("steps")),
    "02-version-zero": put("keepstep", 0),
}

_Text = Callable[[bytes], bytes]

TEXTS: dict[str, _Text] = {
    "01-empty-file": lambda good: b"",
    "01-cut-short": lambda good: good[: len(good) // 2],
    "01-not-json": lambda good: b"keepstep: 2\n",
    "01-list": lambda good: b"[" + good + b"]",
    "01-null": lambda good: b"null",
    "01-two-objects": lambda good: good + good,
    "01-trailing-comma": lambda good: good.replace(b"\n ]\n}", b"\n ],\n}"),
    "01-comment": lambda good: b"// toy\n" + good,
    "01-single-quotes": lambda good: good.replace(b'"', b"'"),
    "01-byte-order-mark": lambda good: b"\xef\xbb\xbf" + good,
    "01-not-utf-8": lambda good: good.replace(b'"toy"', b'"t\xffy"'),
    "01-utf-16": lambda good: good.decode().encode("utf-16"),
    "01-control-character-in-a-string": lambda good: good.replace(b'"toy"', b'"t\noy"'),
    "01-nan": lambda good: good.replace(b"999.0", b"NaN"),
    "01-infinity": lambda good: good.replace(b"999.0", b"-Infinity"),
    "01-number-beyond-double": lambda good: good.replace(b"999.0", b"1e999"),
    "01-repeated-plan-field": lambda good: good.replace(b'"name"', b'"name": "x", "name"', 1),
    "01-repeated-value": lambda good: good.replace(b'"norms": {"kind"', b'"noise": {"kind"', 1),
    "01-repeated-version": lambda good: good.replace(b'"keepstep"', b'"keepstep": 2, "keepstep"'),
    "01-repeated-key-by-escape": lambda good: good.replace(
        b'"name"', b'"\\u006eame": "x", "name"', 1
    ),
    "01-nested-17-deep": lambda good: _nested(good, 16),
    "01-nested-20000-deep": lambda good: _nested(good, 20_000),
    "01-objects-nested-17-deep": lambda good: b'{"a":' * 17 + b"0" + b"}" * 17,
    "01-unclosed-20000-deep": lambda good: b"[" * 20_000,
    "02-newer-in-other-words": lambda good: b'{"keepstep": 9007199254740992}',
}


def _nested(good: bytes, depth: int) -> bytes:
    """The toy plan with one more field of `depth` lists in one another."""
    return good.replace(b' "name"', b' "x": ' + b"[" * depth + b"]" * depth + b',\n "name"', 1)
