"""Edits of a plan given as JSON data, to be put together into mutations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plans.toy import Json, stage

Mutation = Callable[[Json], Any]


def put(*path_and_value: Any) -> Mutation:
    """Set the member at a path: `put("calls", 1, "step", 0)`."""
    *path, key, value = path_and_value

    def mutate(plan: Json) -> None:
        at(plan, path)[key] = value

    return mutate


def drop(*path: Any) -> Mutation:
    """Take away the member at a path."""
    *before, key = path

    def mutate(plan: Json) -> None:
        del at(plan, before)[key]

    return mutate


def rename(*path_and_name: Any) -> Mutation:
    """Give the member at a path another key, in the same place."""
    *before, key, new = path_and_name

    def mutate(plan: Json) -> None:
        members = at(plan, before)
        renamed = {new if name == key else name: member for name, member in members.items()}
        members.clear()
        members.update(renamed)

    return mutate


def both(*mutations: Mutation) -> Mutation:
    """One after the other."""

    def mutate(plan: Json) -> None:
        for mutation in mutations:
            mutation(plan)

    return mutate


def at(plan: Json, path: list[Any]) -> Any:
    """The member at a path."""
    found: Any = plan
    for key in path:
        found = found[key]
    return found


def add_call(plan: Json, name: str, inputs: Json, outputs: Json, reads: Json, writes: Json) -> None:
    """Append a call of a new stage."""
    plan["stages"][name] = stage(name, inputs, outputs)
    plan["calls"].append({"stage": name, "reads": reads, "writes": writes})
