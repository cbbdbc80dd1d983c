"""Bundles that several tests look at, each exported once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from exports_for_tests import BUILT_IN, EMOJI, SAMPLERS, with_sampler
from models_for_tests import write_model

from keepstep.exporter import export
from keepstep.runtime import Bundle


@pytest.fixture(scope="session", autouse=True)
def quick_exports(one_table_of_operators: None) -> None:
    """Tests here export."""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two levels, for tests that need stages of their own."""
    return write_model(tmp_path_factory.mktemp("model") / "small", levels=2)


@pytest.fixture(scope="session")
def samplers_bundle(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One full plan for each sampler; all share the same four stages and prompt."""
    schedules = [with_sampler(name) for name in SAMPLERS]
    return export(tiny_folder, schedules, tmp_path_factory.mktemp("bundle") / "samplers")


@pytest.fixture(scope="session")
def emoji_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The trained model with the three built-in schedules; every stage is compared."""
    out = tmp_path_factory.mktemp("bundle") / "emoji"
    return export(EMOJI, BUILT_IN, out, verify="stages")
