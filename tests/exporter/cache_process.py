"""Processes that use a cache."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from keepstep.exporter.store.cache import Cache

PREPARED = "from keepstep.exporter.store.cache import *\ncache = Cache.default()"


def python(
    code: str, cache: Cache, *, limit: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    """Run code with the names of `cache.py`, and with `cache` as the default cache."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["KEEPSTEP_CACHE"] = str(cache.folder)
    return subprocess.Popen(
        [sys.executable, "-c", f"{PREPARED}\n{code}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=limit,
    )
