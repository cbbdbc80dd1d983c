"""Rules 3 and 5 to 10 of docs/plan-format.md: names, types and places of values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from keepstep.runtime.format.paths import path_fault
from keepstep.runtime.format.plan import (
    ALIGNMENT,
    ITEM_BYTES,
    VALUE_KINDS,
    Default,
    Plan,
    TensorType,
    Value,
)
from keepstep.runtime.quoting import did_you_mean, escape, quote, quote_names

MAX_AXES = 8
MAX_AXIS = 2**31 - 1
MAX_BYTES = 2**40
# The least and the greatest number of a dtype, of int64 those that every reader of JSON has.
LIMITS = {
    "float32": (-(2.0**128 - 2.0**104), 2.0**128 - 2.0**104),
    "float16": (-65504.0, 65504.0),
    "bfloat16": (-(2.0**128 - 2.0**120), 2.0**128 - 2.0**120),
    "int64": (-(2.0**53), 2.0**53),
    "int32": (-(2.0**31), 2.0**31 - 1),
    "uint8": (0.0, 255.0),
}

_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,200}")


def rule_3_paths(plan: Plan) -> Iterator[str]:
    """A path is relative, uses `/`, has no empty, `.` or `..` part, no backslash, no NUL, no drive.

    That no symbolic link leads out of the bundle is checked where the bundle is opened.
    """
    for place, path in plan_paths(plan):
        if fault := path_fault(path):
            yield f"{place}: path {quote(path)} {fault}"


def plan_paths(plan: Plan) -> Iterator[tuple[str, str]]:
    """Every path in a plan, each after its place."""
    for name, value in plan.values.items():
        if value.file is not None:
            yield f"values.{escape(name)}.file", value.file
    for name, stage in plan.stages.items():
        for backend, path in stage.engines.items():
            yield f"stages.{escape(name)}.engines.{escape(backend)}", path


def rule_5_names(plan: Plan) -> Iterator[str]:
    """Names are 1 to 200 characters out of `A–Z a–z 0–9 _ . : / -`; a plan's has no `/` or `:`."""
    if fault := plan_name_fault(plan.name):
        yield f"name: {fault}"
    for place, name in _names(plan):
        if fault := name_fault(name):
            yield f"{place}: {fault}"


def name_fault(name: str) -> str | None:
    """Say what keeps `name` from being a name, or None when nothing does."""
    if _NAME.fullmatch(name):
        return None
    return f"expected 1 to 200 characters out of A-Z a-z 0-9 _ . : / -, found {quote(name)}"


def plan_name_fault(name: str) -> str | None:
    """Say what keeps `name` from being the name of a plan, or None when nothing does."""
    if fault := name_fault(name):
        return fault
    if "/" in name or ":" in name:
        return f"the name of a plan has no '/' and no ':', found {quote(name)}"
    if name.startswith("."):
        return f"the name of a plan does not begin with '.', found {quote(name)}"
    return None


def _names(plan: Plan) -> Iterator[tuple[str, str]]:
    for name, value in plan.values.items():
        yield "values", name
        if value.tensor is not None:
            yield f"values.{escape(name)}.tensor", value.tensor
    for name, stage in plan.stages.items():
        yield "stages", name
        for part in ("inputs", "outputs", "weights", "engines"):
            for key in getattr(stage, part):
                yield f"stages.{escape(name)}.{part}", key


def rule_6_enums(plan: Plan) -> Iterator[str]:
    """`kind` and `dtype` are ones listed in the format."""
    for name, value in plan.values.items():
        if value.kind not in VALUE_KINDS:
            hint = did_you_mean(value.kind, VALUE_KINDS)
            yield (
                f"values.{name}.kind: unknown kind {quote(value.kind)}{hint}; "
                f"known: {quote_names(VALUE_KINDS)}"
            )
    for place, tensor in _types(plan):
        if tensor.dtype not in ITEM_BYTES:
            hint = did_you_mean(tensor.dtype, ITEM_BYTES)
            yield (
                f"{place}.dtype: unknown dtype {quote(tensor.dtype)}{hint}; "
                f"known: {quote_names(ITEM_BYTES)}"
            )


def rule_7_sizes(plan: Plan) -> Iterator[str]:
    """A shape has 0 to 8 axes of 1 … 2³¹−1; a value has at most 2⁴⁰ bytes, and so has the arena."""
    for place, tensor in _types(plan):
        if len(tensor.shape) > MAX_AXES:
            yield f"{place}.shape: {len(tensor.shape)} axes, expected at most {MAX_AXES}"
        elif not all(1 <= axis <= MAX_AXIS for axis in tensor.shape):
            yield f"{place}.shape: {list(tensor.shape)}, expected axes of 1 to 2^31-1"
        elif tensor.bytes > MAX_BYTES:
            yield f"{place}: {tensor.bytes} bytes, expected at most 2^40"
    if plan.arena_bytes > MAX_BYTES:
        yield f"arena_bytes: {plan.arena_bytes}, expected at most 2^40"


def _types(plan: Plan) -> Iterator[tuple[str, TensorType]]:
    for name, value in plan.values.items():
        yield f"values.{name}", value.type
    for name, stage in plan.stages.items():
        for tensor, type_ in stage.inputs.items():
            yield f"stages.{name}.inputs.{tensor}", type_
        for tensor, type_ in stage.outputs.items():
            yield f"stages.{name}.outputs.{tensor}", type_


def rule_8_fields(plan: Plan) -> Iterator[str]:
    """`constant` has `file` and `tensor`, the other kinds `offset`; `feed` is for `scratch`,
    `range` and `default` for `input`."""
    for name, value in plan.values.items():
        constant = value.kind == "constant"
        for field, given in (
            ("file", value.file),
            ("tensor", value.tensor),
            ("offset", value.offset),
        ):
            needed = constant == (field != "offset")
            if needed and given is None:
                yield f"values.{name}: kind {value.kind} needs the field {field!r}"
            if not needed and given is not None:
                yield f"values.{name}: kind {value.kind} has no field {field!r}"
        if value.feed and value.kind != "scratch":
            yield f"values.{name}: 'feed' stands at kind scratch only, found kind {value.kind}"
        if value.range is not None and value.kind != "input":
            yield f"values.{name}: 'range' stands at kind input only, found kind {value.kind}"
        elif value.range is not None and (fault := _range_fault(value.range, value.type.dtype)):
            yield f"values.{name}.range: {fault}"
        if value.default is not None and value.kind != "input":
            yield f"values.{name}: 'default' stands at kind input only, found kind {value.kind}"
        elif value.default is not None and (fault := _default_fault(value.default, value)):
            yield f"values.{name}.default: {fault}"


def _range_fault(range_: tuple[float, float], dtype: str) -> str | None:
    """Say what keeps two numbers from being a range of a dtype, or None when nothing does."""
    lowest, highest = range_
    if dtype not in LIMITS:
        return f"{dtype} has none"
    if lowest > highest:
        return f"expected [lowest, highest], found {range_text(range_)}"
    if lowest < LIMITS[dtype][0] or highest > LIMITS[dtype][1]:
        return f"{range_text(range_)} does not fit {dtype}"
    if "int" in dtype and not (lowest.is_integer() and highest.is_integer()):
        return f"expected whole numbers for {dtype}, found {range_text(range_)}"
    return None


def _default_fault(default: Default, value: Value) -> str | None:
    """Say what keeps a default from filling an input, or None when nothing does."""
    dtype, shape = value.type.dtype, value.type.shape
    if isinstance(default, tuple) and (not shape or shape[-1] != len(default)):
        return f"{len(default)} entries do not fit the last axis of {type_text(value.type)}"
    for entry in default if isinstance(default, tuple) else (default,):
        if isinstance(entry, bool) != (dtype == "bool"):
            wanted = "true or false" if dtype == "bool" else "a number"
            return f"expected {wanted} for {dtype}, found {str(entry).lower()}"
        if isinstance(entry, bool):
            continue
        if not LIMITS[dtype][0] <= entry <= LIMITS[dtype][1]:
            return f"{entry:.17g} does not fit {dtype}"
        if "int" in dtype and not entry.is_integer():
            return f"expected whole numbers for {dtype}, found {entry:.17g}"
        if value.range is not None and not value.range[0] <= entry <= value.range[1]:
            return f"{entry:.17g} lies outside of the range {range_text(value.range)}"
    return None


def range_text(range_: tuple[float, float]) -> str:
    """A range as a person writes it, such as `0 to 49407`."""
    return " to ".join(f"{bound:.17g}" for bound in range_)


def rule_9_offsets(plan: Plan) -> Iterator[str]:
    """`offset` is a multiple of 256, and the value ends within the arena."""
    for name, value in plan.values.items():
        if value.offset is None:
            continue
        if value.offset % ALIGNMENT:
            yield f"values.{name}.offset: {value.offset} is no multiple of {ALIGNMENT}"
        if value.offset + value.type.bytes > plan.arena_bytes:
            yield (
                f"values.{name}: ends at byte {value.offset + value.type.bytes} "
                f"of an arena of {plan.arena_bytes}"
            )


def rule_10_constants(
    plan: Plan, constants: Callable[[str, str], TensorType | None]
) -> Iterator[str]:
    """A constant's tensor is in its safetensors file, with this dtype and shape."""
    for name, value in plan.values.items():
        if value.file is None or value.tensor is None:
            continue
        found = constants(value.file, value.tensor)
        if found is None:
            yield f"values.{name}: {quote(value.file)} holds no tensor {quote(value.tensor)}"
        elif found != value.type:
            yield (
                f"values.{name}: expected {type_text(value.type)}, found {type_text(found)} "
                f"in {quote(value.file)}"
            )


def type_text(tensor: TensorType) -> str:
    """A type as a person writes it, such as `float32[2, 4]`; of too many axes the first."""
    axes = ", ".join(map(str, tensor.shape[:MAX_AXES]))
    return f"{tensor.dtype}[{axes}{', …' if len(tensor.shape) > MAX_AXES else ''}]"
