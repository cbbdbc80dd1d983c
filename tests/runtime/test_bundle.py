from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plans.make import HERE, mutated, text_of
from plans.toy import as_format_1, toy
from runtime.toy_bundle import CONSTANTS, KERNEL, inputs, played, seal, write_bundle

from keepstep.runtime import Bundle, BundleError, InputError, Plan


def refused(folder: Path, rule: int, plan: str | None = None, **options: bool) -> str:
    """Open a bundle, or a plan of it, which must be refused with `rule`; give the message."""
    with pytest.raises(BundleError) as caught:
        bundle = Bundle.open(folder, **options)
        assert plan is not None, "the bundle was opened"
        bundle.plan(plan)
    assert caught.value.rule == rule
    return str(caught.value)


def manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Alter bundle.json."""
    data = json.loads((folder / "bundle.json").read_text())
    change(data)
    (folder / "bundle.json").write_text(json.dumps(data))


def replan(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Alter the plan, and make bundle.json fit again."""
    plan = toy()
    change(plan)
    (folder / "plans/toy.json").write_bytes(text_of(plan))
    seal(folder)


def test_a_bundle_lists_and_gives_its_plans(bundle: Bundle) -> None:
    assert bundle.plans == ("toy",)
    plan = bundle.plan("toy")
    assert isinstance(plan, Plan)
    assert bundle.plan("toy") is plan
    assert bundle.manifest.model == {"name": "toy"}


def test_an_unknown_plan_is_an_input_error_with_the_known_ones(bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"no plan 'tyo' .did you mean 'toy'.*its plans: 'toy'"):
        bundle.plan("tyo")


def test_arrays_are_read_only_and_shared(bundle: Bundle) -> None:
    kernel = bundle.array("weights.safetensors", "unet.kernel")
    assert np.array_equal(kernel, KERNEL)
    assert bundle.array("weights.safetensors", "unet.kernel") is kernel
    with pytest.raises(ValueError, match="read-only"):
        kernel[0, 0] = 1


def test_golden_values_are_inputs_and_outputs(bundle: Bundle) -> None:
    golden = bundle.golden("toy")
    assert golden.keys() == {"noise", "token_ids", "latents", "image"}
    with pytest.raises(InputError, match=r"it has 'golden/toy.safetensors'"):
        bundle.golden("full")


def test_an_unknown_tensor_or_file_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no tensor 'x'"):
        bundle.array("weights.safetensors", "x")
    with pytest.raises(BundleError, match=r"'\.\./x' is not listed"):
        bundle.array("../x", "x")
    with pytest.raises(BundleError, match="not a safetensors file"):
        bundle.array("plans/toy.json", "x")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nothing", 0)


def test_a_file_is_no_bundle(folder: Path) -> None:
    assert "no such folder" in refused(folder / "bundle.json", 0)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    assert "keepstep export" in refused(tmp_path, 0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 10**5, b'{"keepstep": 1}'])
def test_a_broken_manifest_is_refused(folder: Path, content: bytes) -> None:
    (folder / "bundle.json").write_bytes(content)
    assert refused(folder, 1).startswith("bundle.json: ")


def test_a_newer_bundle_is_refused_with_both_versions(folder: Path) -> None:
    manifest(folder, lambda m: m.update(keepstep=7, engines=[]))
    assert "version 7, but this keepstep reads versions 1 and 2" in refused(folder, 2)


@pytest.mark.parametrize("of_bundle", [1, 2])
@pytest.mark.parametrize("edit", [lambda plan: None, as_format_1])
def test_a_bundle_and_its_plans_are_read_each_by_its_own_format(
    tmp_path: Path, of_bundle: int, edit: Callable[[dict[str, Any]], None]
) -> None:
    folder = write_bundle(tmp_path / "old", mutated(edit))
    seal(folder, keepstep=of_bundle)
    with Bundle.open(folder).player("toy") as player:
        expected = played(**inputs())
        np.testing.assert_allclose(player.run(inputs())["latents"], expected["latents"], rtol=1e-5)


def test_a_newer_plan_is_refused_with_both_versions(folder: Path) -> None:
    replan(folder, lambda plan: plan.update(keepstep=3, graphs=[]))
    assert "version 3, but this keepstep reads versions 1 and 2" in refused(folder, 2, "toy")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a\\b", "C:/x", "", "a//b", "./a"])
def test_a_listed_path_that_escapes_is_refused(folder: Path, path: str) -> None:
    manifest(folder, lambda m: m["files"].update({path: {"bytes": 0, "sha256": "0" * 64}}))
    assert "path" in refused(folder, 3)


def test_paths_that_are_quoted_alike_are_each_checked(folder: Path) -> None:
    entry = {"bytes": 0, "sha256": "0" * 64}
    paths = {"x" * 100 + "/../../../secret": entry, "x" * 100 + "/good": entry}
    manifest(folder, lambda m: m["files"].update(paths))
    assert "'..'" in refused(folder, 3)


@pytest.mark.parametrize("length", [0, 2**20 + 1, 2**40])
def test_the_length_of_prompts_is_bounded(folder: Path, length: int) -> None:
    manifest(folder, lambda m: m["tokenizers"]["token_ids"].update(length=length))
    assert f"tokenizers.token_ids.length: {length}, expected 1 to 2^20" in refused(folder, 7)


def test_the_tokenizers_path_is_checked(folder: Path) -> None:
    place = "tokenizers.token_ids.file"
    manifest(folder, lambda m: m["tokenizers"]["token_ids"].update(file="../tokenizer.json"))
    assert place in refused(folder, 3)
    manifest(folder, lambda m: m["tokenizers"]["token_ids"].update(file="tokenizer/other.json"))
    assert f"{place}: 'tokenizer/other.json' is not listed" in refused(folder, 4)


@pytest.mark.parametrize("name", ["", "token ids", "ü", "x" * 201])
def test_a_tokenizers_name_is_checked(folder: Path, name: str) -> None:
    manifest(folder, lambda m: m["tokenizers"].update({name: m["tokenizers"]["token_ids"]}))
    assert "bundle.json: tokenizers: expected 1 to 200 characters" in refused(folder, 5)


@pytest.mark.parametrize("link", ["weights.safetensors", "stages", "bundle.json"])
def test_a_symbolic_link_out_of_the_bundle_is_refused(folder: Path, link: str) -> None:
    outside = folder.parent / "outside"
    (folder / link).rename(outside)
    (folder / link).symlink_to(outside)
    assert "symbolic link" in refused(folder, 3)


def test_a_path_that_no_system_opens_is_refused_in_one_short_line(folder: Path) -> None:
    path = "x" + "/x" * 300_000
    seal(folder, files={path: {"bytes": 1, "sha256": "0" * 64}})
    message = refused(folder, 0)
    assert "too long" in message
    assert len(message) < 1000


def test_a_symbolic_link_within_the_bundle_is_followed(folder: Path) -> None:
    (folder / "weights.safetensors").rename(folder / "w")
    (folder / "weights.safetensors").symlink_to("w")
    seal(folder)
    assert Bundle.open(folder).plan("toy")


def test_a_bundle_may_itself_be_a_symbolic_link(folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    assert Bundle.open(folder.parent / "link").plan("toy")


def test_a_circle_of_symbolic_links_is_refused(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    (folder / "weights.safetensors").symlink_to("weights.safetensors")
    assert "missing" in refused(folder, 4)


@pytest.mark.parametrize("path", ["weights.safetensors", "stages/full-00.onnx", "plans/toy.json"])
def test_a_missing_file_is_refused(folder: Path, path: str) -> None:
    (folder / path).unlink()
    assert f"{path}: is missing" in refused(folder, 4)


def test_a_cut_file_is_refused(folder: Path) -> None:
    with (folder / "weights.safetensors").open("r+b") as file:
        file.truncate(20)
    assert "20 bytes, expected" in refused(folder, 4)
    assert "20 bytes, expected" in refused(folder, 4, verify_hashes=False)


def test_an_altered_file_is_refused(folder: Path) -> None:
    path = folder / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "SHA-256" in refused(folder, 4)
    assert Bundle.open(folder, verify_hashes=False).plan("toy")


def test_hashes_may_be_written_in_capitals(folder: Path) -> None:
    def capitals(data: dict[str, Any]) -> None:
        for entry in data["files"].values():
            entry["sha256"] = entry["sha256"].upper()

    manifest(folder, capitals)
    assert Bundle.open(folder)


def test_a_folder_or_pipe_in_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    (folder / "weights.safetensors").mkdir()
    assert "no plain file" in refused(folder, 4)
    (folder / "weights.safetensors").rmdir()
    os.mkfifo(folder / "weights.safetensors")
    assert "no plain file" in refused(folder, 4)


def test_a_path_through_a_file_or_of_many_letters_is_refused(folder: Path) -> None:
    entry = {"bytes": 0, "sha256": "0" * 64}
    manifest(folder, lambda m: m["files"].update({"weights.safetensors/x": entry}))
    assert "missing" in refused(folder, 4)
    seal(folder)
    manifest(folder, lambda m: m["files"].update({"x" * 5000: entry}))
    assert refused(folder, 0)


def test_plans_must_be_listed_once_and_by_their_names(folder: Path) -> None:
    seal(folder, plans=["toy", "other"])
    assert "plans[1]: 'plans/other.json' is not listed" in refused(folder, 4)
    seal(folder, plans=["toy", "toy"])
    assert "twice" in refused(folder, 4)
    seal(folder, plans=["../toy"])
    assert "not listed" in refused(folder, 4)


def test_a_plan_name_must_be_a_name(folder: Path) -> None:
    (folder / "plans/.toy.json").write_bytes(b"{}")
    seal(folder, plans=[".toy"])
    assert "does not begin with '.'" in refused(folder, 5)


def test_a_plan_must_have_the_name_of_its_file(folder: Path) -> None:
    replan(folder, lambda plan: plan.update(name="yot"))
    assert "name: expected 'toy', found 'yot'" in refused(folder, 4, "toy")


def test_files_of_a_plan_must_be_listed(folder: Path) -> None:
    engines = {"onnxruntime": "stages/other.onnx"}
    replan(folder, lambda plan: plan["stages"]["full"].update(engines=engines))
    assert "stages.full.engines.onnxruntime" in refused(folder, 4, "toy")


@pytest.mark.parametrize(
    ("constant", "change", "message"),
    [
        ("coef", {"tensor": "coefs"}, "holds no tensor 'coefs'"),
        ("coef", {"shape": [3, 4]}, "found float32[3, 3]"),
        ("coef", {"dtype": "float16"}, "found float32[3, 3]"),
        ("coef", {"file": "plans/toy.json"}, "not a safetensors file"),
    ],
)
def test_constants_must_be_in_their_files(
    folder: Path, constant: str, change: dict[str, Any], message: str
) -> None:
    replan(folder, lambda plan: plan["values"][constant].update(change))
    assert message in refused(folder, 10, "toy")


@pytest.mark.parametrize("name", [p.name for p in sorted((HERE / "bad").glob("1[1-9]-*.json"))])
def test_bad_plans_are_refused_from_within_a_bundle(folder: Path, name: str) -> None:
    (folder / "plans/toy.json").write_bytes((HERE / "bad" / name).read_bytes())
    for stage in ("spare", "idle", "late", "last", "mask", "note", "begin", "write"):
        (folder / f"stages/{stage}-00.onnx").touch()
    seal(folder)
    assert refused(folder, int(name[:2]), "toy").startswith("plans/toy.json: ")


@pytest.mark.parametrize("where", [8, 60, 100, -1])
@pytest.mark.parametrize("file", ["plans/toy.safetensors", "weights.safetensors"])
def test_a_safetensors_file_of_rubbish_is_refused(folder: Path, file: str, where: int) -> None:
    content = bytearray((folder / file).read_bytes())
    del content[where]
    (folder / file).write_bytes(content)
    seal(folder)
    refused(folder, 10, "toy")


def test_a_safetensors_header_that_claims_much_is_refused(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    seal(folder)
    assert "not a safetensors file" in refused(folder, 10, "toy")


def test_a_bundle_without_tokenizer_has_none(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "toy")
    seal(folder, tokenizers={})
    bundle = Bundle.open(folder)
    assert bundle.tokenizers == {}
    with bundle.player("toy", "null") as player, pytest.raises(InputError, match="no prompt"):
        player.encode("a")


def test_constants_are_those_of_the_file(bundle: Bundle) -> None:
    for name, array in CONSTANTS.items():
        assert np.array_equal(bundle.array("plans/toy.safetensors", name), array)
