"""Five faults, sown into a copy of the source: what `make test` runs finds each of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXPORTER = "exporter/keepstep/exporter"


@dataclass(frozen=True)
class Fault:
    """file     of the source
    right    what stands there, once
    wrong    what a tired developer may have written
    caught   a test that has to fail
    """

    file: str
    right: str
    wrong: str
    caught: str


FAULTS = {
    "a wrong coefficient": Fault(
        f"{EXPORTER}/plan/drafts.py",
        "row[known - 1 : 0 : -1]",
        "row[1:known]",
        "tests/export/test_equals_diffusers.py",
    ),
    "swapped halves of guidance": Fault(
        f"{EXPORTER}/models/guidance.py",
        "torch.cat([negative, condition])",
        "torch.cat([condition, negative])",
        "tests/export/test_equals_diffusers.py",
    ),
    "stale weights": Fault(
        f"{EXPORTER}/compilation.py",
        '"checkpoint": self.checkpoint.sha256,\n                "weights"',
        '"checkpoint": self.model.name,\n                "weights"',
        "tests/export/test_builds_nothing.py::"
        "test_an_altered_checkpoint_is_not_taken_for_the_old_one",
    ),
    "an overlapping slot of the arena": Fault(
        f"{EXPORTER}/plan/memory.py",
        "offset = max(offset, _align(end))",
        "offset = max(offset, _align(begin))",
        "tests/exporter/test_memory.py",
    ),
    "a wrong gather": Fault(
        f"{EXPORTER}/methods/dato.py",
        "x_candidates = gather_tokens(x, candidates)",
        "x_candidates = gather_tokens(x, base)",
        "tests/exporter/test_dato.py",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_can_still_be_sown(name: str) -> None:
    fault = FAULTS[name]
    assert (ROOT / fault.file).read_text(encoding="utf-8").count(fault.right) == 1
    assert (ROOT / fault.caught.partition("::")[0]).is_file()


@pytest.mark.long  # each is an export or two
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught(name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    for folder in ("exporter", "runtime/python", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    (tmp_path / "models").symlink_to(ROOT / "models")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    file = tmp_path / fault.file
    code = file.read_text(encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", fault.caught]
    path = os.pathsep.join(str(tmp_path / folder) for folder in ("exporter", "runtime/python"))
    environment = {**os.environ, "PYTHONPATH": path, "KEEPSTEP_CACHE": str(tmp_path / "cache")}
    environment.pop("PYTEST_XDIST_WORKER", None)
    said = []
    for text in (code, code.replace(fault.right, fault.wrong)):
        file.write_text(text, encoding="utf-8")
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        said.append((done.returncode, done.stdout[-2000:]))
    assert said[0][0] == 0, said[0][1]  # the copy itself is right
    assert said[1][0] == 1, said[1][1]  # and its tests fail, not pytest
