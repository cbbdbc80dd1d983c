"""The toy plan with a cache that is updated in place: the calls 4 to 6, before the decoder's.

Call 4 writes all of the state `kv`, and calls 5 and 6 each put `row` into two rows of it.
"""

from __future__ import annotations

from plans.edits import Mutation
from plans.toy import Json, stage, tensor


def in_place(pairs: dict[str, str] | None = None) -> Mutation:
    """Add the calls; `pairs` is what their stage says of `in_place`."""

    def mutate(plan: Json) -> None:
        row, half, whole = (tensor("float32", rows, 4) for rows in (1, 2, 4))
        plan["values"]["kv"] = {"kind": "state", **whole, "offset": 1792}
        plan["values"]["other"] = {"kind": "scratch", **whole, "offset": 2048}
        plan["values"]["row"] = {"kind": "input", **row, "offset": 2304}
        plan["arena_bytes"] = 2560
        plan["stages"]["begin"] = stage("begin", {"row": row}, {"kv": whole})
        write = stage("write", {"cache": half, "row": row}, {"cache_new": half})
        write["in_place"] = {"cache_new": "cache"} if pairs is None else pairs
        plan["stages"]["write"] = write
        calls = [{"stage": "begin", "reads": {"row": "row"}, "writes": {"kv": "kv"}}]
        for first in (0, 2):
            reads = {"cache": ["kv", first], "row": "row"}
            calls.append({"stage": "write", "reads": reads, "writes": {"cache_new": ["kv", first]}})
        plan["calls"][4:4] = calls

    return mutate
