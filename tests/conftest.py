"""What every test may rely on."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# A shell starts background jobs with SIGINT ignored, and children inherit that. Tests that send
# it, to this process or to their own, must not depend on how the test run was started.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Documents and examples first: they are files of many seconds, and in the end one process
    would run them while the other has nothing left."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Exports keep their work here, not where the user's are kept; one for all test processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEEPSTEP_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def one_table_of_operators() -> Iterator[None]:
    """torch.onnx makes its table of operators anew for every stage, which takes a tenth of it.

    For folders whose tests export: importing it takes seconds.
    """
    from torch.onnx._internal.exporter import _registration

    made = functools.cache(_registration.ONNXRegistry.from_torchlib)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_registration.ONNXRegistry, "from_torchlib", staticmethod(made))
        yield
