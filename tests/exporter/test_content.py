"""A model folder is known by its content, whatever its paths and times say."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from keepstep.exporter.errors import ModelError
from keepstep.exporter.folder import content as content_module
from keepstep.exporter.folder.content import HASHING, check_same, content_of
from keepstep.exporter.folder.model_folder import find_folder
from keepstep.exporter.store.cache import Cache

WEIGHTS = ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")
UNET = f"{WEIGHTS[0]}.safetensors"


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is an hour ahead: what was just written is old."""
    now = time.time_ns
    monkeypatch.setattr(content_module.time, "time_ns", lambda: now() + 3600 * 10**9)


def sha256(folder: Path, cache: Cache) -> str:
    return content_of(find_folder(str(folder)), cache, lambda what, done, total: None).sha256


def hashed(folder: Path, cache: Cache) -> set[str]:
    """The files that are hashed when the content is asked for."""
    found: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        real = content_module._sha256

        def counting(path: Path, within: object) -> str:
            found.add(path.relative_to(folder).as_posix().removesuffix(".safetensors"))
            return real(path, within)  # type: ignore[arg-type]

        patch.setattr(content_module, "_sha256", counting)
        sha256(folder, cache)
    return found


def flip(path: Path, *, time_kept: bool = True) -> None:
    """Change a byte in place; keep the size, and the time as `rsync -t` and archives do."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    if time_kept:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.usefixtures("settled")
def test_unchanged_weights_are_hashed_once(folder: Path, cache: Cache) -> None:
    assert hashed(folder, cache) == set(WEIGHTS)
    assert hashed(folder, cache) == set()
    assert hashed(folder, Cache(cache.folder)) == set()


@pytest.mark.usefixtures("settled")
def test_a_rewrite_in_place_that_keeps_the_time_is_noticed(folder: Path, cache: Cache) -> None:
    before = sha256(folder, cache)
    flip(folder / UNET)
    assert hashed(folder, cache) == {WEIGHTS[0]}
    assert sha256(folder, cache) != before
    flip(folder / UNET)
    assert sha256(folder, cache) == before


def test_a_file_that_was_just_written_is_not_remembered(folder: Path, cache: Cache) -> None:
    """Another write within the same tick of the clock would leave all its times alone."""
    assert hashed(folder, cache) == set(WEIGHTS)
    assert hashed(folder, cache) == set(WEIGHTS)


@pytest.mark.usefixtures("settled")
def test_a_time_of_change_in_whole_seconds_is_not_trusted(
    folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images and archives that are mounted repeat the times, and numbers, of another one."""
    real = content_module._stamp
    monkeypatch.setattr(content_module, "_stamp", lambda *a: (*real(*a)[:4], 10**9))
    assert hashed(folder, cache) == set(WEIGHTS)
    assert hashed(folder, cache) == set(WEIGHTS)


READ = (
    *("model_index.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer.json"),
    *("unet/config.json", "text_encoder/config.json", "vae/config.json"),
)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("file", READ)
def test_every_small_file_that_is_read_is_part_of_the_content(
    file: str, folder: Path, cache: Cache
) -> None:
    before = sha256(folder, cache)
    path = folder / file
    path.write_bytes(path.read_bytes() + b" ")
    assert sha256(folder, cache) != before
    assert hashed(folder, cache) == set()


@pytest.mark.usefixtures("settled")
def test_files_that_are_not_read_and_places_are_no_part_of_it(
    folder: Path, cache: Cache, tmp_path: Path
) -> None:
    before = sha256(folder, cache)
    (folder / "README.md").write_text("more")
    (folder / "unet/old.safetensors").write_bytes(b"no weights at all")
    assert sha256(folder, cache) == before
    moved = folder.rename(tmp_path / "other")
    assert sha256(moved, cache) == before
    assert sha256(Path(shutil.copytree(moved, tmp_path / "copy")), cache) == before


@pytest.mark.usefixtures("settled")
def test_a_linked_component_is_followed(folder: Path, cache: Cache, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder / "unet", tmp_path / "other"))
    flip(other / Path(UNET).name)
    before = sha256(folder, cache)
    (folder / "unet").rename(tmp_path / "first")
    (folder / "unet").symlink_to(tmp_path / "first")
    assert sha256(folder, cache) == before
    (folder / "unet").unlink()
    (folder / "unet").symlink_to(other)
    pointed_elsewhere = sha256(folder, cache)
    assert pointed_elsewhere != before
    flip(other / Path(UNET).name)
    assert sha256(folder, cache) == before


@pytest.mark.usefixtures("settled")
def test_what_is_remembered_is_listed_and_pruned(folder: Path, cache: Cache) -> None:
    sha256(folder, cache)
    about = {use.entry.about["file"] for use in cache.entries() if use.entry.kind == "hash"}
    assert about == {f"model/{name}.safetensors" for name in WEIGHTS}
    cache.close()
    assert cache.prune().entries == len(WEIGHTS)
    assert hashed(folder, cache) == set(WEIGHTS)


def test_hashing_tells_how_far_it_is(folder: Path, cache: Cache) -> None:
    told: list[tuple[str, int, int]] = []
    content_of(find_folder(str(folder)), cache, lambda *said: told.append(said))
    total = sum((folder / f"{name}.safetensors").stat().st_size for name in WEIGHTS)
    assert {what for what, _, _ in told} == {HASHING}
    assert {whole for _, _, whole in told} == {total}
    done = [part for _, part, _ in told]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, total)


def test_a_file_that_is_written_while_it_is_hashed_is_refused(
    folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = content_module._sha256

    def written(path: Path, within: object) -> str:
        digest = real(path, within)  # type: ignore[arg-type]
        flip(path, time_kept=False)
        return digest

    monkeypatch.setattr(content_module, "_sha256", written)
    with pytest.raises(ModelError, match="changed while the model was exported"):
        sha256(folder, cache)


@pytest.mark.usefixtures("settled")
def test_nothing_is_kept_of_weights_that_were_written_meanwhile(folder: Path, cache: Cache) -> None:
    content = content_of(find_folder(str(folder)), cache, lambda what, done, total: None)

    def make(_: Path) -> dict[str, bytes]:
        flip(folder / UNET)
        return {"weights": b"of another model"}

    with pytest.raises(ModelError, match=f"model/{UNET}: changed while .*; nothing was written"):
        content.made(cache, "weights", "0" * 64, {}, make)
    assert cache.get("weights", "0" * 64) is None


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("file", [UNET, "unet/config.json", "tokenizer/merges.txt"])
def test_a_folder_that_changed_is_another_one(file: str, folder: Path, cache: Cache) -> None:
    content = content_of(find_folder(str(folder)), cache, lambda what, done, total: None)
    check_same(content, cache)
    (folder / file).touch()  # another time, the same content
    os.link(folder / file, folder / "another-name")
    check_same(content, cache)
    if file == UNET:
        flip(folder / file)
    else:
        (folder / file).write_bytes((folder / file).read_bytes() + b"\n")
    with pytest.raises(ModelError, match=r"^model: changed while .*; nothing was written"):
        check_same(content, cache)
