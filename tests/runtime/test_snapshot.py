"""A bundle stays what it was when it was opened, or says that it is no longer there."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plans.make import text_of
from plans.toy import toy
from runtime.toy_bundle import CONSTANTS, inputs, seal, tokenizer, write_bundle
from safetensors.numpy import save_file

from keepstep.exporter.store.durable import exchange
from keepstep.runtime import Bundle, BundleError
from keepstep.runtime.folder import bundle_files

PLANS = ("toy", "second")


def write_two_plans(folder: Path, factor: float) -> Path:
    """The toy, and the same again as a second plan; constants times a factor."""
    write_bundle(folder)
    constants = {name: array * np.float32(factor) for name, array in CONSTANTS.items()}
    save_file(constants, folder / "plans/toy.safetensors")
    (folder / "plans/second.json").write_bytes(text_of({**toy(), "name": "second"}))
    seal(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_two_plans(tmp_path / "bundle", 1)


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    return write_two_plans(tmp_path / "newer", 2)


def swap(one: Path, other: Path) -> None:
    """As an export does, or in three steps where a system cannot."""
    if not exchange(one, other):
        aside = one.with_name("aside")
        one.rename(aside)
        other.rename(one)
        aside.rename(other)


def latents(bundle: Bundle, plan: str) -> np.ndarray:
    with bundle.player(plan, threads=1) as player:
        return player.run(inputs())["latents"]


def test_an_exchanged_folder_still_gives_its_old_content(folder: Path, newer: Path) -> None:
    bundle, other = Bundle.open(folder), Bundle.open(newer)
    old, new = latents(bundle, "toy"), latents(other, "second")
    assert not np.array_equal(old, new)
    swap(folder, newer)
    assert np.array_equal(latents(bundle, "second"), old)
    assert np.array_equal(latents(Bundle.open(folder), "second"), new)


def test_what_an_export_has_taken_away_is_refused(folder: Path, newer: Path) -> None:
    bundle = Bundle.open(folder)
    old = latents(bundle, "toy")
    with bundle.player("toy", threads=1) as player:
        swap(folder, newer)
        shutil.rmtree(newer)
        assert np.array_equal(player.run(inputs())["latents"], old)
    with pytest.raises(BundleError, match=r"plans/second\.json' was replaced.*open the bundle"):
        bundle.plan("second")
    with pytest.raises(BundleError, match="was replaced since it was opened"):
        bundle.player("toy", threads=2)


def test_a_copy_with_loras_is_of_the_same_folder(folder: Path, newer: Path) -> None:
    bundle = Bundle.open(folder).with_loras([])
    old = latents(bundle, "toy")
    swap(folder, newer)
    assert np.array_equal(latents(bundle, "second"), old)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize(
    "path",
    [
        "plans/toy.json",
        "plans/toy.safetensors",
        "weights.safetensors",
        "golden/toy.safetensors",
        "tokenizer/tokenizer.json",
        "stages/full-00.onnx",
    ],
)
def test_a_file_that_was_written_anew_is_refused(folder: Path, path: str, in_place: bool) -> None:
    bundle = Bundle.open(folder)
    data = (folder / path).read_bytes()
    if not in_place:
        (folder / path).unlink()
    (folder / path).write_bytes(data)
    os.utime(folder / path, ns=(1, 1))  # clocks of file systems are coarse
    with pytest.raises(BundleError, match=f"'{path}' was replaced since it was opened") as caught:
        bundle.plan("toy")
        bundle.golden("toy")
        _ = bundle.tokenizers
        bundle.player("toy", threads=1)
    assert caught.value.rule == 0
    for reach in (bundle.read, bundle.file):
        with pytest.raises(BundleError, match="was replaced"):
            reach(path)


def test_a_new_link_to_a_file_changes_nothing(folder: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(folder)
    os.link(folder / "plans/toy.json", tmp_path / "link")
    assert bundle.plan("toy").name == "toy"


def test_bytes_are_hashed_again_when_they_are_read(folder: Path) -> None:
    bundle, trusting = Bundle.open(folder), Bundle.open(folder, verify_hashes=False)
    path = folder / "tokenizer/tokenizer.json"
    status, data = path.stat(), path.read_bytes()
    assert bundle.read("tokenizer/tokenizer.json") == data
    path.write_bytes(data[:-1] + b"?")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(BundleError, match="was replaced"):
        bundle.read("tokenizer/tokenizer.json")
    assert trusting.read("tokenizer/tokenizer.json") == data[:-1] + b"?"


def test_a_file_that_is_not_listed_is_not_read(folder: Path) -> None:
    with pytest.raises(BundleError, match="not listed") as caught:
        Bundle.open(folder).read("../secret")
    assert caught.value.rule == 4


def test_the_name_of_an_exchanged_file_is_not_given(folder: Path, newer: Path) -> None:
    bundle = Bundle.open(folder)
    assert bundle.file("weights.safetensors").is_file()
    swap(folder, newer)
    with pytest.raises(BundleError, match="was replaced"):
        bundle.file("weights.safetensors")


def test_an_exchange_while_a_bundle_is_opened_is_no_damage(
    folder: Path, newer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = latents(Bundle.open(newer), "toy")
    check, left = bundle_files._check_file, [newer]

    def exchanged_meanwhile(snapshot: Any, path: str, *rest: Any) -> None:
        if path == "weights.safetensors" and left:
            swap(folder, newer)
            shutil.rmtree(left.pop())
        check(snapshot, path, *rest)

    monkeypatch.setattr(bundle_files, "_check_file", exchanged_meanwhile)
    bundle = Bundle.open(folder)
    assert not left
    assert np.array_equal(latents(bundle, "second"), new)


def test_a_damaged_bundle_is_refused_as_before(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match="0 bytes, expected") as caught:
        Bundle.open(folder)
    assert caught.value.rule == 4


@contextmanager
def exported_again_and_again(folder: Path, sources: tuple[Path, Path]) -> Iterator[list[int]]:
    """Two bundles take turns at a place, each as a fresh copy, and the old one is removed."""
    done, count = threading.Event(), [0]

    def work() -> None:
        while not done.is_set():
            draft = folder.with_name(f"draft{count[0]}")
            shutil.copytree(sources[count[0] % 2], draft)
            swap(draft, folder)
            shutil.rmtree(draft)
            count[0] += 1
            done.wait(0.06)  # some readers are to come through

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield count
    finally:
        done.set()
        thread.join()


def test_readers_of_a_place_that_is_exported_to_see_no_mix(tmp_path: Path) -> None:
    sources = (write_two_plans(tmp_path / "one", 1), write_two_plans(tmp_path / "two", 2))
    whole = [latents(Bundle.open(source), "toy") for source in sources]
    place = tmp_path / "place"
    shutil.copytree(sources[0], place)
    played = 0
    with exported_again_and_again(place, sources) as exchanges:
        end = time.monotonic() + 30  # on a machine that does other things
        while (played < 5 or exchanges[0] < 10) and time.monotonic() < end:
            try:
                bundle = Bundle.open(place)
                found = [latents(bundle, plan) for plan in PLANS]
                played += 1
            except BundleError as error:
                text = str(error)
                assert "was replaced since" in text or "exchanged 10 times" in text, text
                continue
            assert any(all(np.array_equal(f, w) for f in found) for w in whole)
    assert exchanges[0] >= 10
    assert played >= 5


def test_a_tokenizer_is_that_of_the_bundle(folder: Path) -> None:
    bundle = Bundle.open(folder)
    assert json.loads(bundle.tokenizers["token_ids"].json) == json.loads(tokenizer().to_str())
