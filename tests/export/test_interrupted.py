"""Exports that are killed, that run beside each other, or that find their cache damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from exports_for_tests import with_sampler
from models_for_tests import write_model

from keepstep.exporter import export
from keepstep.exporter.store.cache import Cache, Entry
from keepstep.exporter.store.durable import exchange

# Exports are forked from one process, which has everything imported already. It has also traced and
# converted all stages: that takes most of the time and changes nothing on the disk.
PREPARED = """
import os, random, signal, sys, time, traceback
from pathlib import Path
import torch
from keepstep.exporter import export
from keepstep.exporter.stages import compiled, factory as stages
from keepstep.exporter.store.cache import Cache
from keepstep.exporter.schedule.schema import parse
from keepstep.exporter.check.verify import verify
from keepstep.runtime import Bundle

torch.set_num_threads(1)
os.fsync = lambda file: None  # a kill loses nothing written
model, folder = sys.argv[1], Path(sys.argv[2])

def schedule(name):
    sampler = "{scheduler: %s, steps: 2}" % name
    return parse(f"keepstep: 1\\nname: {name}\\nsampler: {sampler}\\ncalls: {{repeat: F}}")

def started(name, cache, out):
    return forked(lambda: export(model, [schedule(name)], out, verify="stages", cache=Cache(cache)))

def remembered(function):
    known = {}
    def remembering(what, given):
        key = what if isinstance(what, str) else type(what)
        if key not in known:
            known[key] = function(what, given)
        return known[key]
    return remembering

def forked(work):
    worker = os.fork()
    if worker == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    return worker

def ended_well(worker):
    return os.waitpid(worker, 0)[1] == 0

def check(name, out):
    def work():
        bundle = Bundle.open(out, verify_hashes=True)
        assert bundle.plans == (name,), bundle.plans
        assert verify(bundle, name).good
    assert ended_well(forked(work))

def files_of(out):
    paths = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out): path.read_bytes() for path in paths}

def check_tidy(cache, out):
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert list((cache / "tmp").iterdir()) == []

euler, heun = "EulerDiscreteScheduler", "HeunDiscreteScheduler"
stages.trace = remembered(stages.trace)
compiled.onnx_from_subgraph = remembered(compiled.onnx_from_subgraph)
warm = Cache(folder / "warm-cache")
export(model, [schedule(euler)], folder / "warm", verify="none", cache=warm)
"""
AT_ANY_TIME = """
def killed_within(worker, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(worker, os.WNOHANG)
        if done:
            assert status == 0
            return False
        time.sleep(0.02)
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    return True

def forget_half(cache):
    entries = sorted(cache.glob("entries/*/*.json"))
    for path in random.sample(entries, len(entries) // 2):
        path.unlink()

begin = time.monotonic()
assert ended_well(started(euler, folder / "whole-cache", folder / "whole/out"))
duration = time.monotonic() - begin

cache, out, kills = folder / "cache", folder / "place/out", 0
while kills < 20:
    if killed_within(started(euler, cache, out), random.uniform(0, duration)):
        kills += 1
    else:
        forget_half(cache)
    if out.exists():
        check(euler, out)
assert ended_well(started(euler, cache, out))
check(euler, out)
assert files_of(out) == files_of(folder / "whole/out")
check_tidy(cache, out)
"""
AT_ONCE = """
cache, names = folder / "cache", (euler, heun)
workers = [started(name, cache, folder / name / "out") for name in names]
assert [ended_well(worker) for worker in workers] == [True, True]
for name in names:
    check(name, folder / name / "out")
    check_tidy(cache, folder / name / "out")
"""

pytestmark = pytest.mark.long


@pytest.mark.parametrize("script", [AT_ANY_TIME, AT_ONCE], ids=["killed", "at-once"])
def test_exports_leave_whole_bundles_whatever_happens_beside_them(
    script: str, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).touch()
    if not exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this system cannot swap two names at once, so a bundle may be aside")
    model = write_model(tmp_path / "model", levels=2, top_attention=False)
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREPARED + script, str(model), str(work)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def used(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Entry]:
    """What an export finds in the cache: one entry of each kind, the cheapest to make again."""
    out = tmp_path_factory.mktemp("bundle") / "out"
    again(small_folder, out)
    found: dict[str, Entry] = {}

    def noting(cache: Cache, kind: str, key: str) -> Entry | None:
        entry = get(cache, kind, key)
        if entry and entry.about.get("stage", "text") == "text":
            found[kind] = entry
        return entry

    with pytest.MonkeyPatch.context() as patch:
        get = Cache.get
        patch.setattr(Cache, "get", noting)
        again(small_folder, out)
    return found


def again(model: Path, out: Path) -> dict[str, bytes]:
    """Export once more, whole exports forgotten; gives every file of the bundle."""
    with Cache.default() as cache:
        for use in cache.entries():
            if use.entry.kind == "export":
                (cache.folder / f"entries/export/{use.entry.key}.json").unlink()
    export(model, [with_sampler("euler")], out, verify="stages")
    paths = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("kind", ["stage", "engine", "calibration", "weights"])
def test_damaged_work_is_noticed_and_made_again(
    kind: str, used: dict[str, Entry], small_folder: Path, tmp_path: Path
) -> None:
    before = again(small_folder, tmp_path / "before")
    entry = used[kind]
    for blob in entry.files.values():
        content = bytearray(blob.path.read_bytes())
        content[len(content) // 2] ^= 1
        blob.path.unlink()  # bundles have the same file by another name
        blob.path.write_bytes(content)
    assert again(small_folder, tmp_path / "after") == before
    with Cache.default() as cache:
        assert cache.get(kind, entry.key) == entry
