"""Rules 14 to 18 of docs/plan-format.md: who reads and writes which bytes, and when.

This is a check of the plan as it stands and shares no code with the planner that laid it out.
All of it is arithmetic on intervals of bytes: a plan of gigabytes costs no more than one of bytes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

from keepstep.runtime.format.intervals import IntervalSet
from keepstep.runtime.format.plan import Binding, Plan, TensorType, begin_in_value
from keepstep.runtime.quoting import quote


@dataclass(frozen=True)
class Access:
    """The bytes [start, end) of a value that one tensor of one call is bound to."""

    tensor: str
    value: str
    start: int
    end: int


def accesses(
    plan: Plan, bound: Mapping[str, Binding], tensors: Mapping[str, TensorType]
) -> list[Access]:
    """Where in their values the bound tensors lie; constants, which nothing writes, left out."""
    found = []
    for tensor, binding in bound.items():
        value = plan.values[binding.value]
        if value.kind != "constant":
            start = begin_in_value(value, binding)
            found.append(Access(tensor, binding.value, start, start + tensors[tensor].bytes))
    return found


def _accesses_of_calls(plan: Plan) -> Iterator[tuple[int, list[Access], list[Access]]]:
    """Of every call its index, what it reads and what it writes."""
    for i, call in enumerate(plan.calls):
        stage = plan.stages[call.stage]
        reads = accesses(plan, call.reads, stage.inputs)
        yield i, reads, accesses(plan, call.writes, stage.outputs)


def rule_14_aliasing(plan: Plan) -> Iterator[str]:
    """In one call, no written byte is also read, and no byte is written twice.

    But for what a stage does `in_place`: its output is in the memory of its input, of that one
    input (rule 12), and no other tensor of the call is.
    """

    def in_arena(access: Access) -> tuple[int, int, str]:
        offset = plan.values[access.value].offset or 0
        return offset + access.start, offset + access.end, access.tensor

    for i, reads, writes in _accesses_of_calls(plan):
        written = sorted(map(in_arena, writes))
        for (_, end, one), (start, _, other) in pairwise(written):
            if start < end:
                yield f"calls[{i}].writes: {one} and {other} share bytes of the arena"
        occupied = IntervalSet()
        for start, end, _ in written:
            occupied.add(start, end)
        in_place = set(plan.stages[plan.calls[i].stage].in_place.values())
        for start, end, tensor in map(in_arena, reads):
            if tensor not in in_place and occupied.meets(start, end):
                yield f"calls[{i}].reads.{tensor}: the same call writes some of its bytes"


def rule_15_written_before_read(plan: Plan) -> Iterator[str]:
    """Of a `scratch` or `output` value every byte read has been written by an earlier call.

    `input`, `constant` and `state` are there from the start. A `feed` value is not: it need not
    be given, and then the calls that write it must come before those that read it.
    """
    written: dict[str, IntervalSet] = defaultdict(IntervalSet)
    for i, reads, writes in _accesses_of_calls(plan):
        for read in reads:
            needs_writing = plan.values[read.value].kind in ("scratch", "output")
            if needs_writing and not written[read.value].covers(read.start, read.end):
                yield (
                    f"calls[{i}].reads.{read.tensor}: no earlier call has written all of bytes "
                    f"{read.start} to {read.end - 1} of {quote(read.value)}"
                )
        for write in writes:
            written[write.value].add(write.start, write.end)


def rule_16_no_trace(plan: Plan) -> Iterator[str]:
    """Bytes of a `state` value that are read before the run wrote them are written by no call."""
    known: dict[str, IntervalSet] = defaultdict(IntervalSet)  # read or written so far
    cold: dict[str, IntervalSet] = defaultdict(IntervalSet)  # read before written
    for _, reads, writes in _accesses_of_calls(plan):
        for read in reads:
            if plan.values[read.value].kind == "state":
                for start, end in known[read.value].add(read.start, read.end):
                    cold[read.value].add(start, end)
        for write in writes:
            known[write.value].add(write.start, write.end)
    for i, _, writes in _accesses_of_calls(plan):
        for write in writes:
            if write.value in cold and cold[write.value].meets(write.start, write.end):
                yield (
                    f"calls[{i}].writes.{write.tensor}: writes bytes of {quote(write.value)} that "
                    "the run reads before they are written; the next run would read what this "
                    "one left there"
                )


def rule_17_liveness(plan: Plan) -> Iterator[str]:
    """Two values share memory only if they are never alive together.

    A value is alive from its first write (`input`, `feed`: from the start; `state`: always) to
    its last read or write (`output`: to the end; `state`: always), both calls included.
    """
    alive: list[tuple[int, int, str]] = []  # start, end and name, sorted; disjoint
    deaths: list[tuple[int, tuple[int, int, str]]] = []
    for birth, death, name in sorted(_lifetimes(plan)):
        while deaths and deaths[0][0] < birth:
            gone = heappop(deaths)[1]
            del alive[bisect_left(alive, gone)]
        value = plan.values[name]
        start = value.offset or 0
        born = (start, start + value.type.bytes, name)
        at = bisect_left(alive, born)
        for other in alive[max(at - 1, 0) : at + 1]:
            if other[0] < born[1] and born[0] < other[1]:
                when = f"at calls[{birth}]" if birth >= 0 else "before the first call"
                names = f"{quote(other[2])} and {quote(name)}"
                yield f"values {names} share memory, both alive {when}"
                return  # the neighbours tell the truth only while all that are alive are disjoint
        insort(alive, born)
        heappush(deaths, (death, born))


def _lifetimes(plan: Plan) -> Iterator[tuple[int, int, str]]:
    """First and last call at which a value is alive, and its name; −1 is before the first call.

    Values that nothing touches are never alive.
    """
    end = len(plan.calls)
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for name, value in plan.values.items():
        if value.kind in ("input", "state") or value.feed:
            first[name] = last[name] = -1
    for i, reads, writes in _accesses_of_calls(plan):
        for access in (*reads, *writes):
            first.setdefault(access.value, i)
            last[access.value] = i
    for name, birth in first.items():
        for_ever = plan.values[name].kind in ("output", "state")
        yield birth, end if for_ever else last[name], name


def rule_18_outputs(plan: Plan) -> Iterator[str]:
    """Every `output` is written, every byte of it."""
    written: dict[str, IntervalSet] = defaultdict(IntervalSet)
    for _, _, writes in _accesses_of_calls(plan):
        for write in writes:
            written[write.value].add(write.start, write.end)
    for name, value in plan.values.items():
        if value.kind == "output" and not written[name].covers(0, value.type.bytes):
            yield f"values.{name}: no call writes all of its {value.type.bytes} bytes"
