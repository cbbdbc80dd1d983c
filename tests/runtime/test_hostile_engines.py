"""Engines that are made to harm whoever loads them: each is refused soon, or loaded."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
from runtime.test_hostile import soon
from runtime.toy_bundle import inputs, played, seal
from stages.bad_sizes import SIZES
from stages.full import bytes_of, full, node, number

from keepstep.runtime import BackendError, Bundle, BundleError, KeepstepError
from keepstep.runtime.backends.onnx_model import MOST_CODE, MOST_NODES
from keepstep.runtime.backends.onnx_operators import OPERATORS
from keepstep.runtime.backends.onnx_structure import check_onnx
from keepstep.runtime.backends.onnx_wire import OnnxError
from keepstep.runtime.format.plan import Stage

ROOT = Path(__file__).parents[2]
STAGES = ROOT / "tests/stages"
ENGINE = "stages/full-00.onnx"


def load(folder: Path, engine: bytes) -> Any:
    """Load the toy bundle with this engine for its stage `full`."""
    (folder / ENGINE).write_bytes(engine)
    seal(folder)
    return Bundle.open(folder).player("toy", threads=1)


@pytest.mark.parametrize("name", [path.stem for path in sorted((STAGES / "bad").iterdir())])
def test_every_bad_engine_is_refused_when_a_plan_is_loaded(folder: Path, name: str) -> None:
    with soon(), pytest.raises(BundleError, match=r"\(rule 20\)") as caught:
        load(folder, (STAGES / "bad" / f"{name}.onnx").read_bytes())
    assert caught.value.rule == 20
    assert f"stage 'full' ({ENGINE}): " in str(caught.value)


@pytest.mark.parametrize("name", [path.name for path in sorted((STAGES / "valid").iterdir())])
def test_every_right_engine_is_played(folder: Path, name: str) -> None:
    with load(folder, (STAGES / "valid" / name).read_bytes()) as player:
        found = player.run(inputs())
    assert found["latents"] == pytest.approx(played(**inputs())["latents"], rel=1e-5)


@pytest.mark.parametrize("name", ["expand", "tile", "range", "resize", "pad", "doubling"])
def test_types_that_are_not_the_true_ones_are_refused_by_the_library(
    folder: Path, name: str
) -> None:
    """What is declared as small passes the check of the structure, whatever it would become."""
    _, change = SIZES[name]

    def lying(model: Any) -> None:
        change(model)
        for value in list(model.graph.value_info)[-30:]:
            if value.name.startswith("made_"):
                value.type.tensor_type.shape.ClearField("dim")
                value.type.tensor_type.shape.dim.add(dim_value=1)
                value.type.tensor_type.shape.dim.add(dim_value=4)

    with soon(), pytest.raises(BackendError, match="cannot be loaded by ONNX Runtime"):
        load(folder, bytes_of(lying))


def test_a_file_beside_the_engine_is_not_read(folder: Path) -> None:
    (folder / "stages/secret").write_bytes(bytes(64))
    model = full()
    model.graph.initializer[0].external_data[0].value = "secret"
    with pytest.raises(BundleError, match="in another file, 'secret'"):
        load(folder, model.SerializeToString())


@pytest.mark.parametrize("seed", range(300))
def test_a_mutated_engine_is_loaded_or_refused(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    name = rng.choice(sorted(path.name for path in (STAGES / "valid").iterdir()))
    engine = bytearray((STAGES / "valid" / name).read_bytes())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(engine))
        change = rng.randrange(4)
        if change == 0:
            engine[at] = rng.randrange(256)
        elif change == 1:
            engine[at] ^= 1 << rng.randrange(8)
        elif change == 2:
            del engine[at : at + rng.randint(1, 8)]
        else:
            engine[at:at] = engine[at : at + rng.randint(1, 40)]
    with soon(5):
        try:
            load(folder, bytes(engine)).close()
        except KeepstepError as error:
            assert len(str(error)) < 4000


def test_more_than_a_load_takes_well_is_refused_soon() -> None:
    stage = Stage({}, {}, {})
    node_of_no_use = b"\x0a\x08\x22\x06Unused"
    types = [b"\x6a\x0f\x0a\x05%05d\x12\x06\x0a\x04\x08\x01\x12\x00" % i for i in range(2**16 + 1)]
    for content, words in (
        (node_of_no_use * (MOST_NODES + 1), f"more than {MOST_NODES} nodes"),
        (node_of_no_use * (MOST_CODE // len(node_of_no_use) + 1), "bytes of code"),
        (b"".join(types), "nodes, initializers and types"),
    ):
        with soon(5), pytest.raises(OnnxError, match=words):
            check_onnx(_graph(content), stage, {})


def _graph(content: bytes) -> bytes:
    length, size = b"", len(content)
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return b"\x3a" + length + bytes([size]) + content


def test_numbers_in_the_file_are_no_code(folder: Path) -> None:
    """Weights that are embedded may be larger than all code."""

    def change(model: Any) -> None:
        number(model, "large", [0] * (MOST_CODE // 8 + 1))
        node(model, "Neg", ["large"], [MOST_CODE // 8 + 1], 7)

    load(folder, bytes_of(change)).close()


@pytest.mark.parametrize(
    "error", [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), ValueError("x"), IndexError("x")]
)
def test_whatever_the_library_raises_at_load_is_a_backend_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ort, "InferenceSession", fail)
    with pytest.raises(BackendError, match=r"stage 'text'.*cannot be loaded by ONNX"):
        Bundle.open(folder).player("toy")


def test_both_runtimes_know_the_same_operators() -> None:
    source = (ROOT / "runtime/cpp/src/backends/onnx_operators.cpp").read_text(encoding="utf-8")
    lists = source.split("lists[] = {")[1].split("};")[0].split("OperatorKind::")[1:]
    found = [name for part in lists for name in "".join(part.split('"')[1::2]).split()]
    assert sorted(found) == sorted(OPERATORS)
