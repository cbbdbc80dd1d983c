from __future__ import annotations

from pathlib import Path

from runtime.toy_bundle import write_bundle

COMMITTED = Path(__file__).parents[1] / "bundles" / "toy"


def test_the_committed_bundle_is_what_its_script_makes(tmp_path: Path) -> None:
    made = write_bundle(tmp_path / "toy")
    names = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert names == sorted(p.relative_to(COMMITTED) for p in COMMITTED.rglob("*") if p.is_file())
    for name in names:
        # Golden values are numpy's, to the last bit those of the machine; hashes follow them.
        if name.parts[0] not in ("golden", "bundle.json"):
            assert (made / name).read_bytes() == (COMMITTED / name).read_bytes(), name
