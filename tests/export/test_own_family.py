"""A family that is registered from outside is exported, played and verified like any other."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from models_for_tests import write_model

from keepstep.exporter import export, models
from keepstep.exporter.check.verify import verify
from keepstep.exporter.errors import ModelError, ScheduleError
from keepstep.exporter.folder import model_folder
from keepstep.exporter.schedule.schema import parse
from keepstep.runtime import Bundle

EXAMPLE = Path(__file__).parents[2] / "examples/05_own_family.py"
STEPS = 6
FULL, CACHED = (
    parse(
        f"keepstep: 1\nname: {name}\ncalls: {calls}\ncache: {{module: blocks}}\n"
        f"sampler: {{scheduler: DDIMScheduler, steps: {STEPS}, clip_sample: false}}"
    )
    for name, calls in (("full", "F" * STEPS), ("cached", "FssF.s"))
)
# Float32 on both sides, over six calls.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def toy() -> ModuleType:
    """The example, as a module."""
    spec = spec_from_file_location("own_family", EXAMPLE)
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(toy: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    made: Path = toy.write_folder(write_model(place / "base", levels=2), place / "toy")
    return made


@pytest.fixture(scope="module", autouse=True)
def _registered(toy: ModuleType) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "FAMILIES", [*models.FAMILIES])
        patch.setattr(model_folder, "NETWORKS", {**model_folder.NETWORKS})
        patch.setattr(models, "NETWORKS", model_folder.NETWORKS)
        models.register(toy.FAMILY)
        yield


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(folder, [FULL, CACHED], tmp_path_factory.mktemp("bundle") / "toy")


@pytest.mark.parametrize("plan", ["full", "cached"])
def test_its_plans_equal_the_eager_run_of_their_schedules(plan: str, bundle: Bundle) -> None:
    verdict = verify(bundle, plan)
    assert verdict.good, verdict.sentence
    assert verdict.run


@torch.no_grad()
def test_it_plays_what_a_loop_of_ones_own_over_its_modules_gives(
    bundle: Bundle, folder: Path
) -> None:
    model = models.load(str(folder))
    noise = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(1))
    told = model.text.embed(["a red apple"], guidance="none")["prompt_embeds"]
    scheduler = DDIMScheduler.from_config(model.scheduler_config, clip_sample=False)
    scheduler.set_timesteps(STEPS)
    latents = noise
    for t in scheduler.timesteps:
        latents = scheduler.step(model.denoiser.module(latents, t, told), t, latents).prev_sample
    with bundle.player("full") as player:
        ids = player.encode("a red apple")
        assert set(player.inputs) == {"noise", "token_ids"}, "it has no guidance"
        found = player.run({"noise": noise.numpy(), **ids})["latents"]
    error = np.linalg.norm(found - latents.numpy()) / np.linalg.norm(latents.numpy())
    assert error <= TOLERANCE


def test_its_modulation_runs_once_and_its_shallow_calls_run_one_block(
    bundle: Bundle, toy: ModuleType
) -> None:
    plan = bundle.plan("cached")
    stages = {call.stage for call in plan.calls}
    assert stages == {"text", "prompt", "conditioning", "full", "shallow", "decode"}
    for stage in ("full", "shallow"):
        weights = plan.stages[stage].weights
        assert not [w for w in weights if "modulation" in w or "time" in w or "pooled" in w]
    blocks = {w.split(".")[2] for w in plan.stages["shallow"].weights if ".blocks." in w}
    assert blocks == {str(toy.BLOCKS - 1)}


def test_guidance_and_pruning_that_it_does_not_have_are_refused_in_words(
    folder: Path, tmp_path: Path
) -> None:
    guided = FULL.model_copy(update={"guidance": "classifier-free"})
    with pytest.raises(ScheduleError, match="a toy model, which has none: change `guidance`"):
        export(folder, [guided], tmp_path / "out")
    pruned = parse(FULL.to_yaml().replace("prune: false", "prune: {ratio: 0.4}"))
    with pytest.raises(ScheduleError, match="`prune` acts on self-attention in the outer levels"):
        export(folder, [pruned], tmp_path / "out")


def test_without_it_the_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "FAMILIES", models.FAMILIES[:-1])
    with pytest.raises(ModelError, match="a ToyPipeline; this version exports the families stable"):
        models.load(str(folder))


def test_the_example_says_what_it_launches(
    toy: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_model(tmp_path / "models/emoji", levels=2)
    monkeypatch.chdir(tmp_path)
    toy.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("as the eager run")
    assert [line.split()[-1] for line in lines[1:]] == [
        *("text", "prompt", "conditioning"),
        *("full", "shallow", "shallow", "full", "shallow", "decode"),
    ]
