from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from runtime.cache_bundle import write_cache_bundle
from runtime.toy_bundle import write_bundle

BUNDLES = Path(__file__).parents[1] / "bundles"


@pytest.mark.parametrize(("name", "write"), [("toy", write_bundle), ("cache", write_cache_bundle)])
def test_the_committed_bundle_is_what_its_script_makes(
    tmp_path: Path, name: str, write: Callable[[Path], Path]
) -> None:
    made, committed = write(tmp_path / name), BUNDLES / name
    names = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert names == sorted(p.relative_to(committed) for p in committed.rglob("*") if p.is_file())
    for file in names:
        # Golden values are numpy's, to the last bit those of the machine; hashes follow them.
        if file.parts[0] not in ("golden", "bundle.json"):
            assert (made / file).read_bytes() == (committed / file).read_bytes(), file
