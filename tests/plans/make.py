"""Writes the corpus: `python tests/plans/make.py`."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from plans.bad_format_1 import FORMAT_1  # noqa: E402
from plans.bad_grammar import GRAMMAR, TEXTS  # noqa: E402
from plans.bad_newer import NEWER  # noqa: E402
from plans.bad_rules import RULES  # noqa: E402
from plans.edits import Mutation  # noqa: E402
from plans.toy import Json, toy  # noqa: E402
from plans.valid import VALID  # noqa: E402


def corpus() -> Iterator[tuple[str, bytes]]:
    """Every file of the corpus: path and content."""
    for name, mutate in VALID.items():
        yield f"valid/{name}.json", text_of(mutated(mutate))
    for name, mutate in {**GRAMMAR, **RULES, **NEWER, **FORMAT_1}.items():
        yield f"bad/{name}.json", text_of(mutated(mutate))
    good = text_of(toy())
    for name, change in TEXTS.items():
        yield f"bad/{name}.json", change(good)


def mutated(mutate: Mutation) -> Json:
    """The toy plan after one mutation. Parts that it shares with itself are copied apart first."""
    plan: Json = json.loads(json.dumps(toy()))
    mutate(plan)
    return copy.deepcopy(plan)


def text_of(plan: Json) -> bytes:
    """JSON with one line a value, call and step, so that two files can be compared."""
    lines = []
    for key, part in plan.items():
        if isinstance(part, dict):
            rows = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in part.items()]
            text = "{\n" + ",\n".join(rows) + "\n }" if rows else "{}"
        elif isinstance(part, list):
            text = "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in part) + "\n ]"
        else:
            text = json.dumps(part)
        lines.append(f" {json.dumps(key)}: {text}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def main() -> None:
    """Write the files and take away those that are no longer made."""
    files = dict(corpus())
    for folder in ("valid", "bad"):
        (HERE / folder).mkdir(exist_ok=True)
        for old in (HERE / folder).glob("*.json"):
            if f"{folder}/{old.name}" not in files:
                old.unlink()
    for path, content in files.items():
        (HERE / path).write_bytes(content)


if __name__ == "__main__":
    main()
