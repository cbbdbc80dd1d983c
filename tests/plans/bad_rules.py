"""Plans that break one of the rules 3 to 19: what each file has that the toy plan has not.

The number that a name begins with is the lowest rule that is broken.
"""

from __future__ import annotations

from plans.edits import Mutation, add_call, both, drop, put, rename
from plans.toy import Json, stage, tensor
from plans.valid import every_dtype, scalars

_LONG = {"kind": "scratch", **tensor("uint8", 2**31 - 1, 513), "offset": 0}
_BESIDE_FEED = both(
    put("stages", "text", "outputs", "pooled", tensor("float32", 1, 4)),
    put("calls", 0, "writes", "pooled", "pooled"),
    put("values", "pooled", {"kind": "scratch", **tensor("float32", 1, 4), "offset": 1792}),
    put("arena_bytes", 2048),
)


def _moved_down(plan: Json) -> None:
    """The history grows upwards: its window runs into rows that the last run wrote."""
    plan["calls"][1]["writes"]["prediction"] = ["history", 0]
    plan["calls"][2]["writes"]["prediction"] = ["history", 1]
    plan["calls"][1]["reads"]["history"] = ["history", 1]
    plan["calls"][2]["reads"]["history"] = ["history", 2]
    plan["calls"][3]["reads"]["history"] = ["history", 0]


def _memo_of_the_last_run(plan: Json) -> None:
    row = tensor("float32", 1, 4)
    plan["values"]["memo"] = {"kind": "state", **row, "offset": 1792}
    plan["arena_bytes"] = 2048
    plan["stages"]["decode"]["inputs"]["memo"] = row
    plan["calls"][4]["reads"]["memo"] = "memo"
    add_call(plan, "note", {"x": row}, {"memo": row}, {"x": "latents"}, {"memo": "memo"})


def _a_second_scratch_over_features(plan: Json) -> None:
    """`spare` is written between the writer and the reader of `features`, in its memory."""
    row = tensor("float32", 1, 4)
    plan["values"]["spare"] = {"kind": "scratch", **row, "offset": 1024}
    add_call(plan, "spare", {}, {"spare": row}, {}, {"spare": "spare"})
    plan["calls"].insert(2, plan["calls"].pop())


def _scratch_over_unread_output(plan: Json) -> None:
    row = tensor("float32", 1, 4)
    plan["values"]["norms"]["kind"] = "output"
    plan["values"]["late"] = {"kind": "scratch", **row, "offset": 1024}
    add_call(plan, "late", {}, {"late": row}, {}, {"late": "late"})


def _reader_before_writer(plan: Json) -> None:
    plan["calls"].insert(0, plan["calls"].pop(4))


def _writes_row_0_only(plan: Json) -> None:
    plan["values"]["latents"]["shape"] = [2, 4]
    plan["calls"][3]["writes"]["latents"] = ["latents", 0]
    plan["calls"][4]["reads"]["latents"] = ["latents", 0]


def _late_dummy_write(plan: Json) -> None:
    """`norms` is written again after its last read; `late` is alive then."""
    plan["values"]["late"] = {"kind": "scratch", **tensor("float32", 1, 4), "offset": 1024}
    row = tensor("float32", 1, 4)
    reads = {"latents": "latents"}
    add_call(plan, "late", {"latents": row}, {"late": row}, reads, {"late": "late"})
    plan["calls"].append(plan["calls"][3])
    add_call(plan, "last", {"late": row}, {"x": row}, {"late": "late"}, {"x": "x"})
    plan["values"]["x"] = {"kind": "output", **row, "offset": 1792}
    plan["arena_bytes"] = 2048


RULES: dict[str, Mutation] = {
    # 3: paths
    "03-absolute-file": put("values", "coef", "file", "/etc/passwd"),
    "03-parent-part": put("values", "coef", "file", "plans/../../secret.safetensors"),
    "03-dot-part": put("values", "coef", "file", "./plans/toy.safetensors"),
    "03-empty-path": put("values", "coef", "file", ""),
    "03-empty-part": put("values", "coef", "file", "plans//toy.safetensors"),
    "03-part-after-last-slash": put("values", "coef", "file", "plans/"),
    "03-backslash": put("stages", "full", "engines", "onnxruntime", "stages\\full.onnx"),
    "03-nul": put("stages", "full", "engines", "onnxruntime", "stages/full\0.onnx"),
    "03-drive-letter": put("stages", "full", "engines", "onnxruntime", "C:/full.onnx"),
    "03-parent-engine": put("stages", "full", "engines", "onnxruntime", "../full.onnx"),
    # 5: names
    "05-empty-plan-name": put("name", ""),
    "05-plan-name-with-slash": put("name", "a/b"),
    "05-plan-name-with-colon": put("name", "a:b"),
    "05-plan-name-begins-with-dot": put("name", ".toy"),
    "05-plan-name-too-long": put("name", "n" * 201),
    "05-value-name-with-space": rename("values", "norms", "the norms"),
    "05-value-name-empty": rename("values", "norms", ""),
    "05-value-name-too-long": rename("values", "norms", "n" * 201),
    "05-value-name-not-ascii": rename("values", "norms", "Größe"),
    "05-value-name-with-newline": rename("values", "norms", "norms\n"),
    "05-stage-name-with-space": rename("stages", "decode", "de code"),
    "05-input-name-with-quote": rename("stages", "decode", "inputs", "latents", "'x'"),
    "05-output-name-empty": rename("stages", "decode", "outputs", "image", ""),
    "05-weight-name-with-backslash": rename("stages", "full", "weights", "kernel", "a\\b"),
    "05-backend-name-with-space": rename(
        "stages", "full", "engines", "onnxruntime", "onnx runtime"
    ),
    "05-constant-tensor-name-with-space": put("values", "coef", "tensor", "the coef"),
    # 6: words
    "06-unknown-value-kind": put("values", "norms", "kind", "temporary"),
    "06-value-kind-in-capitals": put("values", "norms", "kind", "Scratch"),
    "06-unknown-value-dtype": put("values", "norms", "dtype", "float64"),
    "06-empty-dtype": put("values", "norms", "dtype", ""),
    "06-unknown-input-dtype": put("stages", "full", "inputs", "noise", "dtype", "f32"),
    "06-unknown-output-dtype": put("stages", "full", "outputs", "prediction", "dtype", "int8"),
    # 7: sizes
    "07-nine-axes": put("values", "norms", "shape", [1] * 9),
    "07-axis-zero": put("values", "norms", "shape", [0, 4]),
    "07-axis-beyond-2-to-31": put("values", "norms", "shape", [2**31]),
    "07-stage-axis-zero": put("stages", "full", "inputs", "noise", "shape", [0]),
    "07-stage-nine-axes": put("stages", "full", "outputs", "prediction", "shape", [1] * 9),
    "07-value-beyond-2-to-40-bytes": both(put("values", "long", _LONG), put("arena_bytes", 2**40)),
    "07-size-that-overflows-64-bits": put("values", "norms", "shape", [2**31 - 1] * 8),
    "07-constant-beyond-2-to-40-bytes": put("values", "coef", "shape", [2**31 - 1, 129]),
    "07-arena-beyond-2-to-40-bytes": put("arena_bytes", 2**40 + 1),
    # 8: fields of kinds
    "08-constant-without-file": drop("values", "coef", "file"),
    "08-constant-without-tensor": drop("values", "coef", "tensor"),
    "08-constant-with-offset": put("values", "coef", "offset", 0),
    "08-scratch-without-offset": drop("values", "features", "offset"),
    "08-input-without-offset": drop("values", "noise", "offset"),
    "08-output-with-file": put("values", "image", "file", "weights.safetensors"),
    "08-state-with-tensor": put("values", "history", "tensor", "history"),
    "08-feed-at-input": put("values", "noise", "feed", True),
    "08-feed-at-output": put("values", "latents", "feed", True),
    "08-feed-at-state": put("values", "history", "feed", True),
    "08-feed-at-constant": put("values", "coef", "feed", True),
    "08-range-at-feed": put("values", "prompt_embeds", "range", [-1, 1]),
    "08-range-at-output": put("values", "latents", "range", [-1, 1]),
    "08-range-at-state": put("values", "history", "range", [-1, 1]),
    "08-range-at-constant": put("values", "coef", "range", [-1, 1]),
    "08-range-that-falls": put("values", "token_ids", "range", [6, 0]),
    "08-range-of-a-fraction": put("values", "token_ids", "range", [0, 6.5]),
    "08-range-beyond-2-to-53": put("values", "token_ids", "range", [0, 2**53 + 2]),
    "08-range-beyond-64-bits": put("values", "token_ids", "range", [-(2**70), 0]),
    "08-range-beyond-float32": put("values", "noise", "range", [0, 3.5e38]),
    "08-range-beyond-float16": both(every_dtype, put("values", "float16", "range", [-65505, 0])),
    "08-range-beyond-bfloat16": both(every_dtype, put("values", "bfloat16", "range", [0, 3.4e38])),
    "08-range-beyond-int32": both(every_dtype, put("values", "int32", "range", [0, 2**31])),
    "08-range-beyond-uint8": both(every_dtype, put("values", "uint8", "range", [-1, 0])),
    "08-range-of-bool": both(every_dtype, put("values", "bool", "range", [0, 1])),
    # 9: offsets
    "09-offset-not-aligned": put("values", "image", "offset", 1544),
    "09-value-ends-behind-the-arena": put("arena_bytes", 1539),
    "09-value-begins-behind-the-arena": put("values", "image", "offset", 2048),
    "09-offset-far-behind-the-arena": put("values", "image", "offset", 2**52),
    # 11: stages
    "11-unknown-stage": put("calls", 4, "stage", "decoder"),
    "11-input-not-bound": drop("calls", 1, "reads", "noise"),
    "11-output-not-bound": drop("calls", 1, "writes", "features"),
    "11-binding-for-no-input": put("calls", 4, "reads", "noise", "noise"),
    "11-binding-for-no-output": put("calls", 4, "writes", "norms", "norms"),
    "11-weight-bound-by-a-call": put("calls", 1, "reads", "kernel", "kernel"),
    "11-stage-never-called": put(
        "stages", "spare", stage("spare", {}, {"x": tensor("float32", 1, 4)})
    ),
    "11-stage-without-engine": put("stages", "full", "engines", {}),
    "11-stage-without-output": lambda plan: add_call(plan, "idle", {}, {}, {}, {}),
    # 12: bindings
    "12-unknown-value-read": put("calls", 4, "reads", "latents", "latent"),
    "12-unknown-value-written": put("calls", 4, "writes", "image", "picture"),
    "12-dtypes-differ": put("values", "image", "dtype", "bool"),
    "12-shapes-differ": put("values", "image", "shape", [4, 1]),
    "12-ranks-differ": put("values", "image", "shape", [4]),
    "12-whole-value-where-rows-are-meant": put("calls", 1, "reads", "history", "history"),
    "12-rows-of-another-shape": put("values", "history", "shape", [4, 2]),
    "12-rows-of-another-rank": put("stages", "full", "inputs", "time", "shape", [1, 2, 2]),
    "12-rows-of-another-dtype": put("stages", "full", "inputs", "time", "dtype", "float16"),
    "12-rows-of-a-scalar": both(
        put("values", "image", "shape", []),
        put("stages", "decode", "outputs", "image", "shape", []),
        put("calls", 4, "writes", "image", ["image", 0]),
    ),
    "12-rows-behind-the-end": put("calls", 1, "reads", "history", ["history", 3]),
    "12-row-far-behind-the-end": put("calls", 1, "reads", "history", ["history", 2**53]),
    "12-written-row-behind-the-end": put("calls", 1, "writes", "prediction", ["history", 4]),
    "12-unknown-weight": put("stages", "full", "weights", "kernel", "kernels"),
    "12-weight-is-no-constant": put("stages", "full", "weights", "kernel", "history"),
    "12-tensor-is-input-and-weight": put("stages", "full", "weights", "noise", "kernel"),
    # 13: read-only values
    "13-input-is-written": put("calls", 3, "writes", "norms", "noise"),
    "13-row-of-an-input-is-written": put("calls", 3, "writes", "norms", ["noise", 0]),
    "13-constant-is-written": put("calls", 3, "writes", "norms", ["times", 0]),
    "13-feed-written-beside-scratch": _BESIDE_FEED,
    # 14: aliasing
    "14-call-writes-what-it-reads": put("calls", 2, "writes", "prediction", ["history", 1]),
    "14-read-window-holds-the-written-row": put("calls", 2, "reads", "history", ["history", 0]),
    "14-output-over-an-input-of-the-call": put("values", "image", "offset", 1280),
    "14-one-value-written-twice": put("calls", 3, "writes", "norms", "latents"),
    "14-written-values-overlap": put("values", "norms", "offset", 1280),
    "14-written-values-overlap-in-part": both(
        put("values", "norms", "shape", [65, 4]),
        put("stages", "final", "outputs", "norms", "shape", [65, 4]),
        put("arena_bytes", 2304),
    ),
    # 15: written before read
    "15-scratch-read-before-written": lambda plan: plan["calls"].insert(
        1, {**plan["calls"].pop(2), "step": 0}
    ),
    "15-output-read-before-written": _reader_before_writer,
    "15-scratch-never-written": both(
        put("values", "never", {"kind": "scratch", **tensor("float32", 1, 4), "offset": 1792}),
        put("arena_bytes", 2048),
        put("calls", 4, "reads", "latents", "never"),
    ),
    "15-feed-read-before-written": lambda plan: plan["calls"].append(plan["calls"].pop(0)),
    "15-written-in-part": both(
        _writes_row_0_only,
        put("stages", "decode", "inputs", "latents", "shape", [2, 4]),
        put("calls", 4, "reads", "latents", "latents"),
    ),
    "15-written-under-another-name": both(
        put("values", "alias", {"kind": "scratch", **tensor("float32", 1, 4), "offset": 1280}),
        put("calls", 4, "reads", "latents", "alias"),
    ),
    # 16: no trace
    "16-history-grows-upwards": _moved_down,
    "16-state-read-before-written": _memo_of_the_last_run,
    "16-one-row-read-before-written": put("calls", 2, "writes", "prediction", ["history", 3]),
    # 17: liveness
    "17-scratch-over-scratch": _a_second_scratch_over_features,
    "17-scratch-over-state": put("values", "image", "offset", 768),
    "17-scratch-over-the-end-of-state": both(
        put("values", "history", "shape", [20, 4]),
    ),
    "17-scratch-over-unread-input": both(
        put("values", "early", {"kind": "input", **tensor("float32", 1, 4), "offset": 0}),
    ),
    "17-input-over-input": put("values", "token_ids", "offset", 256),
    "17-output-over-output": both(
        scalars,
        put("values", "mask", {"kind": "output", **tensor("uint8", 1, 4), "offset": 1536}),
        lambda plan: add_call(
            plan,
            "mask",
            {"latents": tensor("float32", 1, 4)},
            {"mask": tensor("uint8", 1, 4)},
            {"latents": "latents"},
            {"mask": "mask"},
        ),
    ),
    "17-output-over-an-input-read-later": both(scalars, put("values", "latents", "offset", 1792)),
    "17-feed-over-input": put("values", "prompt_embeds", "offset", 256),
    "17-scratch-written-after-its-last-read": _late_dummy_write,
    "17-scratch-over-an-output-that-is-not-read": _scratch_over_unread_output,
    # 18: outputs
    "18-output-never-written": both(
        put("values", "mask", {"kind": "output", **tensor("uint8", 1, 4), "offset": 1792}),
        put("arena_bytes", 2048),
    ),
    "18-output-written-in-part": _writes_row_0_only,
    # 19: steps
    "19-label-is-empty": put("steps", 1, "label", ""),
    "19-label-of-201-characters": put("steps", 1, "label", "ü" * 201),
    "19-label-with-a-newline": put("steps", 1, "label", "full\n"),
    "19-label-with-an-escape": put("steps", 1, "label", "\x1b[2J"),
    "19-label-with-a-delete": put("steps", 1, "label", "full\x7f"),
    "19-label-with-a-control-of-two-bytes": put("steps", 1, "label", "\x9b2J"),
    "19-label-with-a-nul": put("steps", 1, "label", "\0"),
    "19-kept-is-zero": put("steps", 0, "kept", 0),
    "19-step-behind-the-end": put("calls", 2, "step", 3),
    "19-steps-fall": both(put("calls", 1, "step", 2), put("calls", 2, "step", 0)),
}
