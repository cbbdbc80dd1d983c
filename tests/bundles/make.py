"""Writes the bundle that both runtimes play in their tests: `python tests/bundles/make.py`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from runtime.toy_bundle import write_bundle  # noqa: E402

if __name__ == "__main__":
    shutil.rmtree(HERE / "toy", ignore_errors=True)
    write_bundle(HERE / "toy")
