"""Schedules: what each call of the sampler is turned into, as data read from a YAML file.

A schedule says nothing of a model. Whether its calls fit the sampler and its kept tokens the
latents is checked when both are known (`Schedule.resolve`, `pruning`).
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import (
    Field,
    ValidationError,
)

from keepstep.runtime.files import read_regular
from keepstep.runtime.quoting import escape, quote, sanitize

from ..errors import ScheduleError
from .settings import CacheSettings, Frozen, Guidance, Keep, Kind, Prune, Sampler
from .strict_yaml import read_yaml

FORMAT_VERSION = 1
MAX_FILE_BYTES = 1 << 20
LETTERS = {"F": "full", "s": "shallow", "t": "tokens", ".": "skip"}

LETTER_OF = {kind: letter for letter, kind in LETTERS.items()}
NO_PRUNE = {"prune": False}


class Call(Frozen):
    """One call of the sampler."""

    kind: Kind
    prune: Prune | None = None
    keep: Keep | None = None


class Repeat(Frozen):
    """A pattern of letters repeated over however many calls the sampler makes."""

    repeat: str


class Schedule(Frozen):
    """A schedule file. `calls` as written; `resolve` gives one `Call` for each sampler call."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
    source: str = ""
    sampler: Sampler = Sampler()
    guidance: Guidance | None = None  # none: the prompt alone; where absent, as the model is made
    cache: CacheSettings | None = None
    prune: Prune | None = None
    keep: Keep | None = None
    calls: Repeat | tuple[Call, ...]

    @staticmethod
    def load(name_or_path: str | Path) -> Schedule:
        """Read a built-in schedule by name, or a file by path; raises `ScheduleError`."""
        path = Path(name_or_path)
        if path.suffix in {".yaml", ".yml"} or path.parent != Path():
            return _read(path, str(path))
        known = builtin_names()
        if path.name not in known:
            near = get_close_matches(path.name[:200], known, 1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ScheduleError(
                f"there is no built-in schedule {quote(path.name)}.{hint} "
                f"Built in: {', '.join(known)}; a file is given by its path, ending in .yaml"
            )
        return _read(Path(str(files(__package__) / "builtin" / f"{path.name}.yaml")), path.name)

    def to_yaml(self) -> str:
        """The schedule as a file that `load` reads to the same schedule."""
        data = {"keepstep": FORMAT_VERSION, **self.model_dump(mode="json", exclude_none=True)}
        if not self.sampler.steps:
            del data["sampler"]["steps"]
        if not isinstance(self.calls, Repeat):
            data["calls"] = [
                call.model_dump(mode="json", exclude_none=True) | ({} if call.prune else NO_PRUNE)
                for call in self.calls
            ]
        text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        return text

    @property
    def keeps_tokens(self) -> bool:
        """Whether some call is of kind tokens."""
        if isinstance(self.calls, Repeat):
            return "t" in self.calls.repeat
        return any(call.kind == "tokens" for call in self.calls)

    def resolve(self, calls: int, asked_by: str) -> tuple[Call, ...]:
        """One `Call` for each of the sampler's `calls`; `asked_by` names the sampler in errors."""
        if isinstance(self.calls, Repeat):
            pattern = _letters(self.calls.repeat, self.name, self)
            return tuple(pattern[k % len(pattern)] for k in range(calls))
        if len(self.calls) != calls:
            raise ScheduleError(
                f"schedule '{self.name}' lists {len(self.calls)} calls, but {asked_by} asks the "
                f"network {calls} times: list {calls} calls, or change `sampler`"
            )
        return self.calls


def builtin_names() -> list[str]:
    """Names of the schedules that come with keepstep."""
    folder = files(__package__) / "builtin"
    names = (Path(entry.name) for entry in folder.iterdir())
    return sorted(path.stem for path in names if path.suffix == ".yaml")


def _read(path: Path, where: str) -> Schedule:
    try:
        text = read_regular(path, MAX_FILE_BYTES).decode()
    except (OSError, ValueError) as error:
        raise ScheduleError(
            f"{where}: cannot be read as a schedule file: {sanitize(error)}"
        ) from error
    return parse(text, where)


def parse(text: str, where: str = "schedule") -> Schedule:
    """Read a schedule from YAML text; `where` names it in errors. Raises `ScheduleError`."""
    data = read_yaml(text, where)
    if not isinstance(data, dict):
        raise ScheduleError(f"{where}: expected a mapping with `keepstep: 1`, `name`, `sampler` …")
    version = data.pop("keepstep", None)
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ScheduleError(
            f"{where}: `keepstep` is {quote(version)}, this version reads {FORMAT_VERSION}: "
            "write `keepstep: 1`, or update keepstep"
        )
    try:
        head = Schedule.model_validate({**data, "calls": []})
        calls = _calls(data.get("calls"), head, where)
    except ValidationError as error:
        raise ScheduleError(f"{where}: {_first(error)}") from error
    schedule = head.model_copy(update={"calls": calls})
    _check(schedule, where)
    return schedule


def _calls(written: object, head: Schedule, where: str) -> Repeat | tuple[Call, ...]:
    """`calls` in any of its three forms: letters, `{repeat: letters}`, or a list of mappings."""
    if isinstance(written, str):
        return _letters(written, where, head)
    if isinstance(written, dict):
        return Repeat.model_validate(written)
    if isinstance(written, list):
        return tuple(_listed(entry, i, head, where) for i, entry in enumerate(written))
    raise ScheduleError(
        f"{where}: `calls` is {type(written).__name__}, expected letters such as 'Fss.', "
        "{repeat: letters}, or a list"
    )


def _letters(text: str, where: str, head: Schedule) -> tuple[Call, ...]:
    calls = []
    for position, letter in enumerate(c for c in text if not c.isspace()):
        if letter not in LETTERS:
            raise ScheduleError(
                f"{where}: call {position} is {quote(letter)}, an unknown kind: "
                "use F (full), s (shallow), t (tokens) or . (skip)"
            )
        kind: Kind = LETTERS[letter]  # type: ignore[assignment]
        calls.append(_default(kind, head))
    if not calls:
        raise ScheduleError(f"{where}: `calls` is empty: name at least one full call (F)")
    return tuple(calls)


def _default(kind: Kind, head: Schedule) -> Call:
    """A call with the settings of the schedule that it has use for."""
    prune = head.prune if kind in ("full", "shallow") else None
    return Call(kind=kind, prune=prune, keep=head.keep if kind == "tokens" else None)


def _listed(entry: object, index: int, head: Schedule, where: str) -> Call:
    """A list entry: a kind, or a mapping whose `prune` overrides the default (false: none), and
    `keep` too."""
    data = {"kind": entry} if isinstance(entry, str) else entry
    if not isinstance(data, dict):
        raise ScheduleError(f"{where}: calls[{index}]: expected a kind or a mapping with `kind`")
    prune = data.get("prune", {})
    if prune is False:
        data = {**data, "prune": None}
    elif isinstance(prune, dict) and data.get("kind") in ("full", "shallow"):
        default = head.prune.model_dump() if head.prune else {}
        merged = {**default, **prune}
        data = {**data, "prune": merged or None}
    if data.get("kind") == "tokens":
        keep = data.get("keep", {})
        own = keep if isinstance(keep, dict) else {"ratio": keep}
        data = {**data, "keep": {**(head.keep.model_dump() if head.keep else {}), **own} or None}
    try:
        return Call.model_validate(data)
    except ValidationError as error:
        raise ScheduleError(f"{where}: calls[{index}]: {_first(error)}") from error


def _check(schedule: Schedule, where: str) -> None:
    """What must hold whatever the model: the first call is full, shallow calls have a cut."""
    calls: Sequence[Call]
    if isinstance(schedule.calls, Repeat):
        calls = _letters(schedule.calls.repeat, where, schedule)
    else:
        calls = schedule.calls
    if not calls:
        raise ScheduleError(f"{where}: `calls` is empty: name at least one full call")
    if calls[0].kind != "full":
        raise ScheduleError(
            f"{where}: call 0 is {calls[0].kind}, but nothing is cached before the first call: "
            "begin with a full call (F)"
        )
    if schedule.cache is None and any(call.kind == "shallow" for call in calls):
        raise ScheduleError(
            f"{where}: shallow calls need `cache`: add `cache: {{branch: 0}}` or name a module"
        )
    _check_keep(calls, where)


def _check_keep(calls: Sequence[Call], where: str) -> None:
    """Calls of kept tokens go on from two others, and choose tokens by one rule."""
    first = next((k for k, call in enumerate(calls) if call.kind == "tokens"), None)
    if first is None:
        return
    if any(call.kind == "tokens" and call.keep is None for call in calls):
        raise ScheduleError(
            f"{where}: calls of kind tokens need `keep`, the share of tokens: add `keep: 0.3`"
        )
    if [call.kind for call in calls[:2]] != ["full", "full"]:
        raise ScheduleError(
            f"{where}: call {first} keeps tokens by how the prediction changed, which two calls "
            "tell: begin with two full calls (FF)"
        )
    rules = {(call.keep.scorer, call.keep.clusters) for call in calls if call.keep}
    if len(rules) > 1:
        raise ScheduleError(
            f"{where}: calls choose tokens by {len(rules)} rules: give all the same `scorer` and "
            "`clusters`; only `ratio` may differ"
        )
    ((scorer, _),) = rules
    if scorer in ("stale-only", "random") and len({c.keep.ratio for c in calls if c.keep}) > 1:
        raise ScheduleError(
            f"{where}: the tokens of `{scorer}` are constants, as many in every call: give all "
            "calls the same `ratio`"
        )


def _first(error: ValidationError) -> str:
    """The first complaint of pydantic as `field: what; found …`."""
    first = error.errors()[0]
    place = ".".join(escape(str(part)) for part in first["loc"]) or "schedule"
    return f"`{place}`: {first['msg']}; found {quote(first.get('input'))}"
