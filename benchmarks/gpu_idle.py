"""How much of a plan's loop the GPU is idle, seen by CUPTI through PyTorch's profiler.

Usage: python benchmarks/gpu_idle.py BUNDLE PLAN BACKEND     writes JSON to its standard output
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

from keepstep.playing.conditioning import grey, run_inputs
from keepstep.runtime import Bundle, Player

WARM_UP = 4  # runs, in which engines settle and the graph is made
Interval = tuple[float, float]


def idle_share(busy: Iterable[Interval]) -> float:
    """The share of the time from the first begin to the last end in which nothing is busy."""
    intervals = sorted(busy)
    if not intervals:
        raise ValueError("nothing ran on the GPU")
    working, until = 0.0, intervals[0][0]
    for begin, end in intervals:
        working += max(0.0, end - max(begin, until))
        until = max(until, end)
    return 1 - working / (until - intervals[0][0])


def kernels(player: Player) -> list[Interval]:
    """Begin and end, in microseconds, of all that one replay of the plan does on the GPU."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    start = grey(player.inputs)
    inputs = run_inputs(player, "a red apple", guidance_scale=None, seed=0, start=start)
    for _ in range(WARM_UP):
        player.run(inputs)
    watched = [ProfilerActivity.CUDA, ProfilerActivity.CPU]
    with profile(activities=watched) as profiled, player.lend(inputs):
        pass
    return [
        (event.time_range.start, event.time_range.end)
        for event in profiled.events() or ()
        if event.device_type == DeviceType.CUDA and "memcpy" not in event.name.lower()
    ]


def main() -> None:
    """Measure one plan."""
    folder, plan, backend = sys.argv[1:]
    with Bundle.open(folder, verify_hashes=False).player(plan, backend) as player:
        found = kernels(player)
    data = {"plan": plan, "backend": backend, "kernels": len(found), "idle": idle_share(found)}
    sys.stdout.write(json.dumps(data) + "\n")


if __name__ == "__main__":
    main()
