"""Tiny models, written and loaded once a session; tests leave them as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from models_for_tests import PICTURE, write_model

from keepstep.exporter import models
from keepstep.exporter.models import Model
from keepstep.exporter.stages.factory import StageFactory


@pytest.fixture(scope="session", autouse=True)
def quick_exports(one_table_of_operators: None) -> None:
    """Tests here export."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny tensors: more threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer a level, attention at the top level."""
    return write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def model(model_folder: Path) -> Model:
    return models.load(str(model_folder))


@pytest.fixture(scope="session")
def wide_model(model_folder: Path) -> Model:
    """The same weights at latents of 16 × 24."""
    return models.load(str(model_folder), PICTURE, PICTURE * 3 // 2)


@pytest.fixture(scope="session")
def plain_top_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """No attention at the latent's own resolution."""
    folder = write_model(tmp_path_factory.mktemp("model") / "plain-top", top_attention=False)
    return models.load(str(folder))


@pytest.fixture(scope="session")
def v_prediction_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers a level, predicts velocities."""
    folder = tmp_path_factory.mktemp("model") / "v-prediction"
    return write_model(folder, layers=2, prediction_type="v_prediction", seed=1)


@pytest.fixture(scope="session")
def v_prediction_model(v_prediction_model_folder: Path) -> Model:
    return models.load(str(v_prediction_model_folder))


@pytest.fixture(scope="session")
def factory(model: Model) -> StageFactory:
    """Shared, so that each variant of the tiny model is traced once a session."""
    return StageFactory(model, batch=1)
