"""Exports killed at any moment: entries and bundles are whole, and the next export cleans up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keepstep.exporter.store.durable import exchange

# Workers are forked from one process, which has everything imported already, and are killed. Where
# two names cannot be swapped at once, a bundle may be aside until the next export, even a failing
# one. `CALLS` are the functions by which the writer and the cache change what is on the disk.
PREPARED = """
import os, random, signal, sys, time
from datetime import timedelta
from pathlib import Path
from exporter.toy_content import content, kept, kernel, key, whole
from keepstep.exporter.store import bundle_place
from keepstep.exporter.store.bundle_place import place_bundle
from keepstep.exporter.store.bundle_writer import WEIGHTS_FILE, write_bundle
from keepstep.exporter.store.cache import Cache
from keepstep.exporter.errors import ExportError
from safetensors.numpy import load_file

CALLS = {"chmod", "flock", "link", "mkdir", "rename", "replace", "rmdir", "sendfile", "unlink"}
CALLS |= {"serialize_file", "write"}
os.fsync = lambda file: None  # it costs most of the time, and a kill loses nothing written
folder, swaps = Path(sys.argv[1]), sys.argv[2] == "swapped"
out, cache = folder / "work/out", Cache(folder / "cache")
if not swaps:
    bundle_place.exchange = lambda *_: False

def export(version):
    with cache:
        write_bundle(content(kept(cache, version)), out)

def fails(draft):
    raise ExportError("expected")

def check(*versions):
    if not swaps:
        try:
            place_bundle(out, fails)
        except ExportError as error:
            assert "expected" in str(error), error
    assert whole(out) in versions
    with cache:
        for version in versions:
            entry = cache.get("toy", key(version))
            if entry is not None:
                found = load_file(entry.files[WEIGHTS_FILE].path)["unet.kernel"]
                assert (found == kernel(version)).all()
    return whole(out)

def check_at_last(version):
    export(version)
    assert whole(out) == version
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert list((cache.folder / "tmp").iterdir()) == []
    cache.prune(timedelta(days=1))
    named = {blob.path for use in cache.entries() for blob in use.entry.files.values()}
    assert {path for path in cache.folder.glob("objects/*/*")} == named
"""
AT_ANY_TIME = """
export(0)
for _ in range(25):
    worker = os.fork()
    if worker == 0:
        while True:
            export(random.randrange(3))
    time.sleep(random.uniform(0, 0.2))
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    check(0, 1, 2)
check_at_last(1)
"""
BEFORE_ANY_CALL = """
def kill_before(n):
    def profile(frame, event, function):
        nonlocal n
        if event == "c_call" and function.__name__ in CALLS:
            n -= 1
            if n == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(profile)

export(0)
killed, there, version = True, 0, 0
while killed:
    version += 1  # of new content each time, so that all of it is written
    worker = os.fork()
    if worker == 0:
        kill_before(version)
        export(version)
        sys.setprofile(None)
        os._exit(0)
    killed = os.waitpid(worker, 0)[1] == signal.SIGKILL
    there = check(there, version)
assert there == version
assert version > 60, "calls of one export"
check_at_last(0)
"""


@pytest.mark.parametrize("moment", [AT_ANY_TIME, BEFORE_ANY_CALL], ids=["any-time", "any-call"])
@pytest.mark.parametrize("swaps", ["swapped", "renamed"])
def test_what_a_killed_export_leaves_is_whole_and_the_next_one_cleans_up(
    moment: str, swaps: str, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).touch()
    if swaps == "swapped" and not exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this system cannot swap two names at once")
    done = subprocess.run(
        [sys.executable, "-c", PREPARED + moment, str(tmp_path), swaps],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.stderr, done.returncode) == ("", 0)
