"""Plans that every runtime accepts: what each file has that the toy plan has not."""

from __future__ import annotations

from plans.edits import Mutation, both, drop, put, rename
from plans.in_place import in_place
from plans.toy import Json, as_format_1, tensor


def scalars(plan: Json) -> None:
    plan["values"]["guidance_scale"] = {"kind": "input", **tensor("float32"), "offset": 1792}
    plan["arena_bytes"] = 2048
    plan["stages"]["decode"]["inputs"]["scale"] = tensor("float32")
    plan["calls"][4]["reads"]["scale"] = "guidance_scale"


def every_dtype(plan: Json) -> None:
    for i, dtype in enumerate(
        ("float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")
    ):
        plan["values"][dtype] = {"kind": "input", **tensor(dtype, 3), "offset": 1792 + 256 * i}
        plan["stages"]["decode"]["inputs"][dtype] = tensor(dtype, 3)
        plan["calls"][4]["reads"][dtype] = dtype
    plan["arena_bytes"] = 1792 + 7 * 256


def _ranges(plan: Json) -> None:
    """The widest range of every dtype that has one, and an int that is written with a point."""
    every_dtype(plan)
    for dtype, bounds in {
        "float32": [-(2.0**128 - 2.0**104), 2.0**128 - 2.0**104],
        "float16": [-65504, 65504],
        "bfloat16": [-(2.0**128 - 2.0**120), 2.0**128 - 2.0**120],
        "int64": [-(2**53), 2**53],
        "int32": [-(2**31), 2**31 - 1],
        "uint8": [0, 255.0],
    }.items():
        plan["values"][dtype]["range"] = bounds
    plan["values"]["token_ids"]["range"] = [7, 7]
    plan["values"]["noise"]["range"] = [-0.5, 1e-3]


def _memory_of_a_read_input(plan: Json) -> None:
    """`token_ids` is read by call 0 only; the decoder's second output takes its memory."""
    plan["values"]["mask"] = {"kind": "output", **tensor("uint8", 1, 4), "offset": 0}
    plan["stages"]["decode"]["outputs"]["mask"] = tensor("uint8", 1, 4)
    plan["calls"][4]["writes"]["mask"] = "mask"


def _two_text_calls_feed_one_value(plan: Json) -> None:
    plan["values"]["prompt_embeds"]["shape"] = [2, 4]
    plan["values"]["negative_token_ids"] = {
        "kind": "input",
        **tensor("int64", 1, 4),
        "offset": 1792,
    }
    plan["arena_bytes"] = 2048
    plan["calls"][0]["writes"]["embeds"] = ["prompt_embeds", 0]
    plan["calls"].insert(
        1,
        {
            "stage": "text",
            "reads": {"token_ids": "negative_token_ids"},
            "writes": {"embeds": ["prompt_embeds", 1]},
        },
    )
    for call in plan["calls"][2:4]:
        call["reads"]["context"] = ["prompt_embeds", 0]


def _state_across_steps(plan: Json) -> None:
    """A state that one call writes and later ones read."""
    plan["values"]["features"]["kind"] = "state"
    plan["values"]["norms"]["offset"] = 1792
    plan["arena_bytes"] = 2048


def _defaults(plan: Json) -> None:
    """The widest number of every dtype, and lists; each is also all that its range lets through."""
    every_dtype(plan)
    for dtype, default in {
        "float32": -(2.0**128 - 2.0**104),
        "float16": [65504, -65504, 6e-8],
        "bfloat16": 2.0**128 - 2.0**120,
        "int64": [-(2**53), 2**53, 0],
        "int32": -(2**31),
        "uint8": 255.0,
        "bool": [True, False, True],
    }.items():
        plan["values"][dtype]["default"] = default
    plan["values"]["token_ids"] |= {"default": [0, 6, 3, 0], "range": [0, 6]}
    plan["values"]["noise"] |= {"default": 0.1, "range": [0.1, 0.1]}


def _scalar_defaults(plan: Json) -> None:
    scalars(plan)
    plan["values"]["guidance_scale"]["default"] = 7.5
    plan["values"]["given"] = {"kind": "input", **tensor("bool"), "offset": 2048, "default": False}
    plan["arena_bytes"] = 2304


def _scratch_in_place(plan: Json) -> None:
    """A whole scratch value in place, and an output that is not."""
    in_place()(plan)
    plan["values"]["kv"] |= {"kind": "scratch", "shape": [2, 4]}
    plan["stages"]["begin"]["outputs"]["kv"] = tensor("float32", 2, 4)
    plan["stages"]["write"]["outputs"]["more"] = tensor("float32", 4, 4)
    del plan["calls"][6]
    plan["calls"][5]["reads"]["cache"] = "kv"
    plan["calls"][5]["writes"] = {"cache_new": "kv", "more": "other"}


VALID: dict[str, Mutation] = {
    "toy": lambda plan: None,
    "scalars": scalars,
    "every-dtype": every_dtype,
    "ranges": _ranges,
    "memory-of-a-read-input-is-reused": _memory_of_a_read_input,
    "two-text-calls-feed-one-value": _two_text_calls_feed_one_value,
    "state-across-steps": _state_across_steps,
    "no-feed": drop("values", "prompt_embeds", "feed"),
    "feed-written-false-elsewhere": put("values", "noise", "feed", False),
    "no-steps": both(put("steps", []), drop("calls", 1, "step"), drop("calls", 2, "step")),
    "nothing-at-all": lambda plan: plan.update(
        values={}, stages={}, calls=[], steps=[], arena_bytes=0
    ),
    "untouched-scratch-shares-memory": put(
        "values", "spare", {"kind": "scratch", **tensor("float32", 4, 4), "offset": 768}
    ),
    "input-that-nobody-reads": both(
        put("values", "extra", {"kind": "input", **tensor("float32", 4), "offset": 1792}),
        put("arena_bytes", 2048),
    ),
    "unaligned-arena-end": put("arena_bytes", 1540),
    "eight-axes": both(
        put("values", "token_ids", "shape", [1, 1, 1, 1, 1, 1, 1, 4]),
        put("stages", "text", "inputs", "token_ids", "shape", [1, 1, 1, 1, 1, 1, 1, 4]),
    ),
    "largest-sizes": both(
        put("arena_bytes", 2**40),
        put("values", "far", {"kind": "scratch", **tensor("uint8", 512, 2**31 - 1), "offset": 0}),
        put("values", "end", {"kind": "scratch", **tensor("uint8", 256), "offset": 2**40 - 256}),
    ),
    "longest-name": both(
        rename("values", "kernel", "k" * 200),
        put("stages", "full", "weights", "kernel", "k" * 200),
    ),
    "odd-names": both(
        put("name", "dato-coco_1.5"),
        rename("stages", "decode", "vae/decode:0"),
        put("calls", 4, "stage", "vae/decode:0"),
        put("stages", "text", "engines", "tensorrt-rtx", "stages/a b ü.engine"),
    ),
    "negative-timestep": put("steps", 0, "timestep", -0.5),
    "one-tensor-read-twice": both(
        put("stages", "decode", "inputs", "again", tensor("float32", 1, 4)),
        put("calls", 4, "reads", "again", "latents"),
    ),
    "call-of-the-same-stage-twice": lambda plan: plan["calls"].append(plan["calls"][4]),
    "in-place": in_place(),
    "in-place-of-nothing": put("stages", "full", "in_place", {}),
    "in-place-scratch": _scratch_in_place,
    "defaults": _defaults,
    "scalar-defaults": _scalar_defaults,
    "default-of-4096-numbers": both(
        put("values", "extra", {"kind": "input", **tensor("uint8", 4096), "offset": 1792}),
        put("values", "extra", "default", [7] * 4096),
        put("arena_bytes", 1792 + 4096),
    ),
    "labels": both(
        put("steps", 0, "label", "blocks 0–3, CAT 60 % 🐈"),
        put("steps", 1, "label", "x"),
        put("steps", 2, "label", "ü" * 200),
    ),
    "step-has-two-calls": put("calls", 3, "step", 2),
    "step-has-no-call": drop("calls", 2, "step"),
    "format-1": as_format_1,
    "format-1-no-steps": both(
        as_format_1, put("steps", []), drop("calls", 1, "step"), drop("calls", 2, "step")
    ),
    "format-1-ranges": both(_ranges, as_format_1),
    "rows-of-all": put("calls", 4, "reads", "latents", ["latents", 0]),
}
