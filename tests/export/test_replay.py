"""A change of the exporter that is to change no bundle changes none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from export import replay

from keepstep.runtime import Bundle

RECORDED = json.loads(replay.RECORDED.read_text())
WAY_OUT = "if that is meant: python tests/export/replay.py"


def check(found: dict[str, object], recorded: dict[str, object]) -> None:
    assert found.keys() == recorded.keys(), WAY_OUT
    for path, what in recorded.items():
        if isinstance(what, str):
            assert found[path] == what, f"{path}: {WAY_OUT}"
            continue
        tensors = found[path]
        assert isinstance(tensors, dict)
        assert isinstance(what, dict)
        assert tensors.keys() == what.keys(), f"{path}: {WAY_OUT}"
        for tensor, (type_, norm) in what.items():
            place = f"{path}: {tensor}: {WAY_OUT}"
            assert tensors[tensor][0] == type_, place
            assert tensors[tensor][1] == pytest.approx(norm, rel=replay.NORM), place


def test_bundles_of_a_small_model_are_as_recorded(tmp_path: Path) -> None:
    found = replay.content(replay.small_bundle(tmp_path), weights=False)
    check(found, RECORDED["small"])


def test_bundles_of_emoji_are_as_recorded(emoji_bundle: Bundle) -> None:
    check(replay.content(emoji_bundle, weights=True), RECORDED["emoji"])
