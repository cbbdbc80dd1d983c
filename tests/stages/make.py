"""Writes the corpus of ONNX stages: `python tests/stages/make.py`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from stages.bad_bytes import BYTES  # noqa: E402
from stages.bad_graphs import GRAPHS  # noqa: E402
from stages.bad_sizes import SIZES  # noqa: E402
from stages.full import bytes_of, full  # noqa: E402
from stages.valid import VALID  # noqa: E402


def corpus() -> Iterator[tuple[str, bytes]]:
    """Every file of the corpus: path and content."""
    for name, change in VALID.items():
        yield f"valid/{name}.onnx", bytes_of(change)
    good = full().SerializeToString()
    lines = []
    for name, (words, rewrite) in BYTES.items():
        lines.append(f"{name}\t{words}\n")
        yield f"bad/{name}.onnx", rewrite(good)
    for name, (words, change) in {**GRAPHS, **SIZES}.items():
        lines.append(f"{name}\t{words}\n")
        yield f"bad/{name}.onnx", bytes_of(change)
    yield "words.tsv", "".join(sorted(lines)).encode()


def main() -> None:
    """Write the files in place of those that are there."""
    for folder in ("valid", "bad"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        (HERE / folder).mkdir()
    for path, content in corpus():
        (HERE / path).write_bytes(content)


if __name__ == "__main__":
    main()
