"""`keepstep run` with what some plans take besides a prompt: sizes, a picture, LoRAs."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.conditioned_bundle import HEIGHT, WIDTH, write_conditioned_bundle
from cli.outcome import Command, Outcome, refused
from cli.tiny_bundle import contents
from PIL import Image
from safetensors.numpy import load_file, save_file

from keepstep.cli.play import lora
from keepstep.runtime import Bundle

MODULE = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_conditioned_bundle(tmp_path_factory.mktemp("conditioned") / "bundle")


@pytest.fixture
def run(keepstep: Command, toy: Path, one_thread: list[str]) -> Command:
    """Play a plan of the toy into a.png."""

    def command(plan: str, *arguments: object) -> Outcome:
        given = ["run", toy, "--plan", plan, "--prompt", "a", "-o", "a.png", *one_thread]
        return keepstep(*given, *arguments)

    return command


def drawn(outcome: Outcome) -> np.ndarray:
    assert (outcome.code, outcome.err) == (0, "")
    with Image.open("a.png") as picture:
        return np.asarray(picture)


def test_a_plan_that_takes_sizes_is_told_the_pictures_own_uncropped(run: Command) -> None:
    height, width = 11 * HEIGHT, 11 * WIDTH  # of the prompt, and tenfold of the negative prompt
    pixels = [[height, width, 0], [0, height, width]]
    sheet = drawn(run("sizes"))
    assert sheet.tolist() == [pixels * 2] * HEIGHT  # two pictures side by side


def test_what_a_plan_has_a_default_for_is_left_out_unless_it_is_asked_for(
    run: Command, keepstep: Command, toy: Path
) -> None:
    assert (drawn(run("defaults")) == (10, 200, 30)).all()
    saving = ["run", toy, "--plan", "defaults", "--prompt", "a", "--save-inputs", "in.safetensors"]
    keepstep(*saving)
    assert set(load_file("in.safetensors")) == {"noise", "token_ids"}
    keepstep(*saving, "--guidance-scale", "7")
    assert load_file("in.safetensors")["guidance_scale"] == 7
    outcome = keepstep("inspect", toy, "--plan", "defaults")
    assert "default 2.5" in outcome.out
    assert "default [10, 200, 30]" in outcome.out


def test_a_picture_is_cut_from_the_middle_resized_and_given_to_the_whole_batch(
    run: Command,
) -> None:
    photo = np.zeros((8 * HEIGHT, 24 * WIDTH, 3), np.uint8)
    middle = photo[:, 8 * WIDTH : 16 * WIDTH]
    middle[...] = (10, 200, 30)
    Image.fromarray(photo).save("photo.png")
    sheet = drawn(run("copy", "--init-image", "photo.png"))
    assert sheet.tolist() == [[[10, 200, 30]] * (2 * WIDTH)] * HEIGHT


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_a_picture_of_any_mode_is_taken(mode: str, run: Command) -> None:
    path = "photo.tiff" if mode == "CMYK" else "photo.png"
    Image.new("RGB", (WIDTH, HEIGHT), "white").convert(mode).save(path)
    assert (drawn(run("copy", "--init-image", path)) == 255).all()


@pytest.mark.parametrize("scale", [[], ["--guidance-scale", 1], ["--guidance-scale", 0]])
def test_a_plan_without_guidance_takes_no_scale_or_one_that_means_none(
    scale: list[object], run: Command
) -> None:
    Image.new("RGB", (WIDTH, HEIGHT), "white").save("photo.png")
    assert (drawn(run("unguided", "--init-image", "photo.png", *scale)) == 255).all()


def test_a_plan_without_guidance_refuses_a_scale_that_would_have_no_effect(run: Command) -> None:
    Image.new("RGB", (WIDTH, HEIGHT), "white").save("photo.png")
    outcome = run("unguided", "--init-image", "photo.png", "--guidance-scale", 7.5)
    assert "plan 'unguided' has no guidance, so a scale of 7.5 has no effect" in refused(outcome)


def test_a_photo_is_turned_upright(run: Command) -> None:
    photo = Image.new("RGB", (HEIGHT, WIDTH))  # lies on its side, and says so
    photo.paste("red", (0, 0, HEIGHT // 2, WIDTH))
    exif = photo.getexif()
    exif[0x0112] = 6  # Orientation: to be turned clockwise by 90 degrees
    photo.save("photo.png", exif=exif)
    sheet = drawn(run("copy", "--init-image", "photo.png"))
    assert (sheet[: HEIGHT // 2] == (255, 0, 0)).all()
    assert (sheet[HEIGHT // 2 :] == 0).all()


def test_a_plan_that_starts_from_a_picture_asks_for_it(run: Command) -> None:
    refused(run("copy"), "'copy' starts from a picture", "--init-image")
    assert not Path("a.png").exists()


def test_a_plan_that_starts_from_noise_takes_no_picture(run: Command) -> None:
    Image.new("RGB", (8, 8)).save("photo.png")
    refused(run("sizes", "--init-image", "photo.png"), "'sizes' does not start", "leave", "noise")
    assert not Path("a.png").exists()


@pytest.mark.parametrize("content", [None, b"", b"text", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "cut"])
def test_a_file_that_is_no_picture_is_refused(content: Any, run: Command) -> None:
    if content == "cut":
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save("photo.png")
        content = Path("photo.png").read_bytes()[:2000]
    if content is not None:
        Path("photo.png").write_bytes(content)
    refused(run("copy", "--init-image", "photo.png"), "photo.png: cannot be read as a picture")
    assert not Path("a.png").exists()


def test_what_is_no_file_is_no_picture_and_is_not_waited_for(run: Command) -> None:
    os.mkfifo("fifo")
    Path("zeros").symlink_to("/dev/zero")
    for name, what in (("fifo", "a FIFO"), ("zeros", "a device"), (".", "a folder")):
        refused(run("copy", "--init-image", name), f"is {what}, expected a regular file")


@pytest.mark.parametrize("pixels", [10_000, 30_000])
def test_a_small_file_that_spells_gigabytes_is_refused(pixels: int, run: Command) -> None:
    """Pillow warns of the first and raises for the second; neither is decoded."""
    header = struct.pack(">IIBBBBB", pixels, pixels, 8, 2, 0, 0, 0)
    picture = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + header, b"IDAT" + zlib.compress(bytes(1000))):
        picture += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    Path("bomb.png").write_bytes(picture)
    refused(run("copy", "--init-image", "bomb.png"), "decompression bomb", f"{pixels**2} pixels")


def test_a_picture_that_is_a_program_is_not_run(run: Command) -> None:
    Path("a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    refused(run("copy", "--init-image", "a.eps"), "a.eps: cannot be read as a picture: no BMP")


def test_the_raw_form_takes_pictures_as_arrays(keepstep: Command, toy: Path) -> None:
    files = ["--inputs", "in.safetensors", "--outputs", "out.safetensors"]
    refused(
        keepstep("run", toy, *files, "--init-image", "photo.png"),
        "--init-image goes with --prompt",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("style.safetensors", ("style.safetensors", 1.0)),
        ("style.safetensors:0.5", ("style.safetensors", 0.5)),
        ("style.safetensors:-2", ("style.safetensors", -2.0)),
        ("a:b/style:1.safetensors", ("a:b/style:1.safetensors", 1.0)),
        ("a:b/style:1.safetensors:1e-1", ("a:b/style:1.safetensors", 0.1)),
        ("C:\\style.safetensors", ("C:\\style.safetensors", 1.0)),
        (":0.5", (":0.5", 1.0)),
        ("style:", ("style:", 1.0)),
    ],
)
def test_only_a_number_behind_the_last_colon_is_a_scale(
    text: str, expected: tuple[str, float]
) -> None:
    assert lora(text) == expected


def write_lora(path: str, width: int = 16) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    factors = {
        f"{MODULE}.lora_A.weight": rng.standard_normal((2, width), dtype=np.float32),
        f"{MODULE}.lora_B.weight": rng.standard_normal((16, 2), dtype=np.float32),
    }
    save_file(factors, path)
    return factors


def test_run_plays_with_loras_at_their_scales(
    keepstep: Command, bundle: Path, one_thread: list[str]
) -> None:
    opened = Bundle.open(bundle)
    golden = opened.golden("full")
    inputs = {k.removeprefix("inputs."): a for k, a in golden.items() if k.startswith("inputs.")}
    save_file(inputs, "in.safetensors")
    one, other = write_lora("one:1.safetensors"), write_lora("other.safetensors")
    files = ["--inputs", "in.safetensors", "--outputs", "out.safetensors", *one_thread]
    loras = ["--lora", "one:1.safetensors:0.5", "--lora", "other.safetensors"]
    outcome = keepstep("run", bundle, *files, *loras)
    assert (outcome.code, outcome.err) == (0, "")
    with opened.with_loras([(one, 0.5), (other, 1.0)]).player("full", threads=1) as player:
        expected = player.run(inputs)["latents"]
    found = load_file("out.safetensors")["latents"]
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, golden["outputs.latents"])


BAD_LORAS = {
    "missing": ("no.safetensors", ["no.safetensors: cannot be read", "No such file"]),
    "a scale in words": ("style.safetensors:half", ["style.safetensors:half: cannot be read"]),
    "an infinite scale": ("style.safetensors:inf", ["style.safetensors: its scale is inf"]),
    "for another model": ("wide.safetensors", ["wide.safetensors: changes", "another arch"]),
}


@pytest.mark.parametrize("case", BAD_LORAS)
def test_a_bad_lora_is_refused_before_anything_is_written(
    case: str, keepstep: Command, bundle: Path, workplace: Path
) -> None:
    argument, words = BAD_LORAS[case]
    write_lora("style.safetensors")
    write_lora("wide.safetensors", width=320)
    before = contents(workplace)
    refused(keepstep("run", bundle, "--prompt", "a", "-o", "a.png", "--lora", argument), *words)
    assert contents(workplace) == before


def test_a_folder_is_no_lora(keepstep: Command, bundle: Path, workplace: Path) -> None:
    outcome = keepstep("run", bundle, "--prompt", "a", "-o", "a.png", "--lora", workplace)
    refused(outcome, f"{workplace}: cannot be read as a safetensors file")
