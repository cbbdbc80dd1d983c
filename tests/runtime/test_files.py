"""Only regular files are read, and nothing in their place hangs or fills the reader."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from keepstep.runtime import Bundle, BundleError
from keepstep.runtime.files import NotRegularError, check_regular, open_regular, read_regular


def test_a_regular_file_is_read_up_to_the_most_bytes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_regular(file, 5) == b"12345"
    assert check_regular(file).st_size == 5
    with pytest.raises(NotRegularError, match="5 bytes, expected 4 at most"):
        read_regular(file, 4)
    with open_regular(file) as opened:
        assert opened.read(2) == b"12"


def test_symbolic_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 1) == b"1"


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        for name, what in (
            ("fifo", "FIFO"),
            ("zeros", "device"),
            ("folder", "folder"),
            ("s", "soc"),
        ):
            for read in (check_regular, lambda path: read_regular(path, 10)):
                with pytest.raises(NotRegularError, match=f"{name}: is a {what}.*regular file"):
                    read(tmp_path / name)


def test_a_file_that_does_not_tell_its_size_is_read_no_further_than_the_most_bytes() -> None:
    endless = Path("/proc/self/status")  # of 0 bytes, says the system
    if not endless.exists():
        pytest.skip("this system has no files without a size")
    with pytest.raises(NotRegularError, match="more than the 10 bytes"):
        read_regular(endless, 10)


def test_nothing_and_names_that_no_file_can_have_are_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "nothing", 1)
    for name in ("a\0b", "a\udc80b\ud800"):
        with pytest.raises(NotRegularError, match="no file can have this name"):
            read_regular(tmp_path / name, 1)


USES = {
    "plans/toy.json": lambda bundle: bundle.plan("toy"),
    "weights.safetensors": lambda bundle: bundle.array("weights.safetensors", "unet.kernel"),
    "stages/full-00.onnx": lambda bundle: bundle.player("toy", threads=1),
    "tokenizer/tokenizer.json": lambda bundle: bundle.tokenizers["token_ids"].encode(["a"]),
}


@pytest.mark.parametrize("path", ["bundle.json", *USES])
def test_a_fifo_in_the_place_of_a_bundles_file_is_not_waited_for(folder: Path, path: str) -> None:
    (folder / path).unlink()
    os.mkfifo(folder / path)
    with pytest.raises(BundleError, match="no plain file"):
        Bundle.open(folder)


@pytest.mark.parametrize("path", USES)
@pytest.mark.parametrize("what", ["a FIFO", "a device"])
def test_what_takes_the_place_of_a_file_behind_the_check_is_not_read(
    folder: Path, path: str, what: str
) -> None:
    bundle = Bundle.open(folder)
    (folder / path).unlink()
    if what == "a FIFO":
        os.mkfifo(folder / path)
    else:
        (folder / path).symlink_to("/dev/zero")
    with pytest.raises(BundleError, match=f"'{path}' was replaced since|leads .* out of"):
        USES[path](bundle)
