"""Files that are made to hang a reader or to eat its memory: each is refused, and soon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from plans.make import text_of
from plans.toy import toy

from keepstep.runtime import BundleError
from keepstep.runtime.format.plan import Binding, Call, Plan, Stage, TensorType, Value
from keepstep.runtime.format.plan_json import manifest_from_json, plan_from_json
from keepstep.runtime.format.strict_json import MAX_BYTES
from keepstep.runtime.format.validate import check_plan

BYTE = TensorType("uint8", (1,))


@contextmanager
def soon(seconds: float = 10) -> Iterator[None]:
    """Fail when the body takes longer: far above what it needs, far below a quadratic loop."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def refused(text: bytes, rule: int = 1) -> str:
    with soon(), pytest.raises(BundleError) as caught:
        plan = plan_from_json(text)
        check_plan(plan)
    assert caught.value.rule == rule
    assert len(str(caught.value)) < 2000
    return str(caught.value)


def test_more_than_64_mib_is_refused() -> None:
    assert "64 MiB" in refused(b" " * (MAX_BYTES + 1))


@pytest.mark.parametrize("unit", [b"[", b'{"a":', b'"', b"\\", b'\\"', b'"\\"', b"[]", b"9"])
def test_megabytes_of_one_token_are_refused(unit: bytes) -> None:
    refused(b'{"keepstep": ' + unit * (2**22 // len(unit)))


def test_a_million_keys_are_refused() -> None:
    members = ", ".join(f'"k{i}": 0' for i in range(10**6))
    assert "unknown field" in refused(f'{{"keepstep": 1, {members}}}'.encode())


def test_a_million_axes_are_refused() -> None:
    plan = toy()
    plan["values"]["noise"]["shape"] = [2**31 - 1] * 10**6
    assert "1000000 axes" in refused(text_of(plan), rule=7)


def test_a_number_of_a_million_digits_is_refused() -> None:
    plan = text_of(toy()).replace(b"1792", b"1" * 10**6)
    assert "expected an int" in refused(plan)


def test_thirty_thousand_values_in_one_place_are_refused() -> None:
    plan: dict[str, Any] = toy()
    for i in range(30_000):
        plan["values"][f"x{i}"] = {"kind": "input", "dtype": "bool", "shape": [], "offset": 0}
    assert "share memory" in refused(text_of(plan), rule=17)


def test_a_hundred_thousand_names_that_do_not_fit_are_refused() -> None:
    plan: dict[str, Any] = toy()
    plan["calls"][0]["reads"] = {f"x{i}": "noise" for i in range(100_000)}
    refused(text_of(plan), rule=11)


def test_twenty_thousand_calls_are_checked_soon() -> None:
    """Each call writes another row of one value, every second row first, and reads another."""
    count = 20_000
    rows = [*range(0, count, 2), *range(1, count, 2)]
    plan = Plan(
        name="long",
        values={
            "in": Value("input", BYTE, 0),
            "rows": Value("state", TensorType("uint8", (count,)), 256),
            "out": Value("output", TensorType("uint8", (count,)), 2**20),
        },
        stages={"s": Stage({"x": BYTE}, {"y": BYTE, "z": BYTE}, {"null": "x"})},
        calls=tuple(
            Call("s", {"x": Binding("in")}, {"y": Binding("rows", row), "z": Binding("out", row)})
            for row in rows
        ),
        steps=(),
        arena_bytes=2**21,
    )
    with soon(20):
        check_plan(plan)


def test_wide_reads_of_a_scattered_state_are_checked_soon() -> None:
    count = 5_000
    whole = TensorType("uint8", (2 * count,))
    plan = Plan(
        name="wide",
        values={
            "state": Value("state", whole, 0),
            "out": Value("output", BYTE, 2**20),
        },
        stages={
            "write": Stage({}, {"y": BYTE}, {"null": "x"}),
            "read": Stage({"x": whole}, {"y": BYTE}, {"null": "x"}),
        },
        calls=(
            *(Call("write", {}, {"y": Binding("state", 2 * i)}) for i in range(count)),
            *(Call("read", {"x": Binding("state")}, {"y": Binding("out")}) for _ in range(count)),
        ),
        steps=(),
        arena_bytes=2**21,
    )
    with soon(20):
        check_plan(plan)


def test_a_manifest_of_a_million_plans_is_refused() -> None:
    with soon(), pytest.raises(BundleError):
        manifest_from_json('{"keepstep": 1, "plans": [' + '"a",' * 10**6 + '"a"]}')
