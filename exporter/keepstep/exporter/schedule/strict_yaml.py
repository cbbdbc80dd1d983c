"""A schedule's YAML, read strictly: mappings, lists, texts and numbers, and bounded in every way.

YAML can spell dates, sets, bytes and objects of programs, keep the last of two equal keys, and
multiply a value without end by aliases. Here an alias stands for what it names, as in YAML, and is
counted as often as it is used; everything else of that is refused with its line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import yaml

from keepstep.runtime.quoting import escape, quote, sanitize

from ..errors import ScheduleError

# A list of 2,000 calls, the most that 1,000 steps make, each with all settings of its pruning
# written out, has 20,000 values.
MOST_VALUES = 30_000
MOST_DEPTH = 16
MOST_DIGITS = 20

_TAG = "tag:yaml.org,2002:"
_SCALARS = ("str", "int", "float", "bool", "null")
_OTHERS: Mapping[str, str] = {
    "timestamp": "a date: put it in quotes",
    "binary": "bytes",
    "set": "a set",
    "omap": "an ordered mapping",
    "pairs": "a list of pairs",
    "merge": "a merge key: write its entries out",
    "value": "a default value: put = in quotes",
}
_COLLECTIONS = {"map": "a mapping", "seq": "a list"}


def read_yaml(text: str, where: str) -> Any:
    """The one document in `text` as dicts, lists, texts, numbers, truths and None.

    Raises `ScheduleError`; `where` names the file in it.
    """
    loader = None
    try:
        loader = _Bounded(text)
        document = loader.get_single_node()
        return None if document is None else _Reader(loader).value(document, "", 0)
    except _RefusedError as error:
        raise ScheduleError(f"{where}: {error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ScheduleError(f"{where}: not valid YAML{place}: {sanitize(error.problem)}") from error
    except yaml.YAMLError as error:  # of its reader: a character that no YAML has
        raise ScheduleError(f"{where}: not valid YAML: {sanitize(error)}") from error
    finally:
        if loader is not None:
            loader.dispose()


class _RefusedError(Exception):
    """What no schedule has; the text says where."""


class _Bounded(yaml.SafeLoader):
    """Gives up before a text of many or deeply nested values has taken long."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._events = 0
        self._depth = 0

    def get_event(self) -> Any:
        event = super().get_event()  # type: ignore[no-untyped-call]
        self._events += 1
        if isinstance(event, yaml.CollectionStartEvent):
            self._depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            self._depth -= 1
        if self._depth > MOST_DEPTH:
            _refuse(event, f"nested deeper than {MOST_DEPTH}")
        if self._events > 2 * MOST_VALUES:  # a key is one, a collection two
            _refuse(event, f"more than {MOST_VALUES} values")
        return event


class _Reader:
    """Turns YAML's nodes into values, and counts them as often as aliases repeat them."""

    def __init__(self, loader: _Bounded) -> None:
        self._loader = loader
        self._count = 0

    def value(self, node: yaml.Node, place: str, depth: int) -> Any:
        """The value of one node at `place`, a path such as `calls[3].prune`."""
        self._count += 1
        if self._count > MOST_VALUES:
            _refuse(node, f"more than {MOST_VALUES} values, written out", place)
        if depth > MOST_DEPTH:  # by an alias, perhaps to what it stands in
            _refuse(node, f"nested deeper than {MOST_DEPTH}", place)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, place, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [
                self.value(item, f"{place}[{i}]", depth + 1) for i, item in enumerate(node.value)
            ]
        kind = node.tag.removeprefix(_TAG)
        if not isinstance(node, yaml.ScalarNode) or kind not in _SCALARS:
            what = _OTHERS.get(kind) or f"a value with the tag {quote(node.tag)}"
            _refuse(node, f"found {what}; expected a text, a number, a list or a mapping", place)
        return self._scalar(node, kind, place)

    def _mapping(self, node: yaml.MappingNode, place: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _key(key_node, place)
            if key in found:
                _refuse(key_node, f"the key {quote(key)} appears twice: keep one", place)
            inner = f"{place}.{escape(key)}" if place else escape(key)
            found[key] = self.value(value_node, inner, depth + 1)
        return found

    def _scalar(self, node: yaml.ScalarNode, kind: str, place: str) -> Any:
        if kind == "int" and len(node.value) > MOST_DIGITS:
            digits = f"a whole number of {len(node.value)} characters"
            _refuse(node, f"found {digits}, expected {MOST_DIGITS} at most", place)
        try:
            value = self._loader.construct_object(node)
        except (ValueError, KeyError) as error:  # a tag that its text does not fit: !!int x
            what = f"{quote(node.value)} is no {kind}"
            raise _RefusedError(_at(node, what, place)) from error
        if isinstance(value, float) and not math.isfinite(value):
            _refuse(node, f"found {value}, expected a finite number", place)
        return value


def _key(node: yaml.Node, place: str) -> str:
    """A key of a mapping, which is a text."""
    if not isinstance(node, yaml.ScalarNode) or node.tag != f"{_TAG}str":
        kind = node.tag.removeprefix(_TAG)
        what = _OTHERS.get(kind) or _COLLECTIONS.get(kind) or f"{quote(node.value)}, no text"
        _refuse(node, f"a key is {what}; expected a name as a key", place)
    return str(node.value)


def _refuse(at: Any, what: str, place: str = "") -> NoReturn:
    raise _RefusedError(_at(at, what, place))


def _at(at: Any, what: str, place: str = "") -> str:
    """What is wrong at a node or an event, with its place and line."""
    line = f"line {at.start_mark.line + 1}: "
    return f"{line}`{place}`: {what}" if place else f"{line}{what}"
