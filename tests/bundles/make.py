"""Writes the bundles that both runtimes play in their tests: `python tests/bundles/make.py`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from runtime.cache_bundle import write_cache_bundle  # noqa: E402
from runtime.toy_bundle import write_bundle  # noqa: E402

if __name__ == "__main__":
    for name, write in (("toy", write_bundle), ("cache", write_cache_bundle)):
        shutil.rmtree(HERE / name, ignore_errors=True)
        write(HERE / name)
