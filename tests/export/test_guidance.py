"""Guidance as diffusers has it: left out up to a scale of 1, and in distilled models."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from export.drawn import GUIDANCE_SCALE, PROMPT, distance, drawn, played
from exports_for_tests import with_sampler
from models_for_tests import PICTURE, write_model, write_xl_model

from keepstep.exporter import ExportError, Schedule, export, models
from keepstep.exporter.check.verify import verify
from keepstep.exporter.schedule.schema import parse
from keepstep.runtime import Bundle, InputError

# Float32 rounding over eight calls, plus 1e-7 in the coefficients of Euler; the project's bar.
TOLERANCE = 1e-4

FULL = with_sampler("euler")
NONE = FULL.model_copy(update={"name": "alone", "guidance": "none"})
PRUNED = parse(
    "keepstep: 1\nname: pruned\nguidance: none\n"
    "sampler: {scheduler: PNDMScheduler, steps: 6}\n"
    'cache: {branch: 0}\nprune: {ratio: 0.4, alpha: 0.5}\ncalls: "FFsF.ss"'
)
FROM_IMAGE = parse(
    "keepstep: 1\nname: from-image\nguidance: none\n"
    "sampler: {scheduler: PNDMScheduler, steps: 6, strength: 0.5}\ncalls: {repeat: F}"
)
SIZE = {"height": PICTURE, "width": PICTURE}
OTHER = "a dog"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "sd": write_model(folder / "sd", levels=2),
        "xl": write_xl_model(folder / "xl"),
    }


FAMILIES = ["sd", pytest.param("xl", marks=pytest.mark.long)]
SCHEDULES = {"sd": [FULL, NONE, PRUNED, FROM_IMAGE], "xl": [FULL, NONE]}


@pytest.fixture(scope="module")
def bundle_of(
    folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Bundle]:
    """A family's bundle, exported when it is first asked for."""
    out = tmp_path_factory.mktemp("bundles")
    return cache(lambda family: export(folders[family], SCHEDULES[family], out / family))


def sizes(family: str) -> dict[str, np.ndarray]:
    ids = np.array([[PICTURE, PICTURE, 0, 0, PICTURE, PICTURE]], np.float32)
    return {"time_ids": ids, "negative_time_ids": ids} if family == "xl" else {}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 1.5])
def test_a_plan_with_both_halves_gives_what_diffusers_gives_at_every_scale(
    family: str, scale: float, bundle_of: Callable[[str], Bundle], folders: dict[str, Path]
) -> None:
    ours = played(bundle_of(family), FULL.name, guidance_scale=scale, **sizes(family))
    theirs = drawn(folders[family], FULL.name, guidance_scale=scale, **SIZE)
    assert distance(ours["latents"], theirs) <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_a_plan_without_guidance_gives_what_diffusers_gives_without(
    family: str, scale: float, bundle_of: Callable[[str], Bundle], folders: dict[str, Path]
) -> None:
    told = {n: a for n, a in sizes(family).items() if n == "time_ids"}
    ours = played(bundle_of(family), NONE.name, **told)["latents"]
    theirs = drawn(folders[family], FULL.name, guidance_scale=scale, **SIZE)
    assert distance(ours, theirs) <= TOLERANCE


@pytest.mark.parametrize("plan", [FULL.name, NONE.name])
def test_without_guidance_the_prompt_still_decides(
    plan: str, bundle_of: Callable[[str], Bundle]
) -> None:
    one, other = (
        played(bundle_of("sd"), plan, prompt=prompt, guidance_scale=0.0)["latents"]
        for prompt in (PROMPT, OTHER)
    )
    assert distance(one, other) > 100 * TOLERANCE


def test_a_plan_without_guidance_is_half_of_the_work(bundle_of: Callable[[str], Bundle]) -> None:
    both, alone = (bundle_of("sd").plan(name).stages for name in (FULL.name, NONE.name))
    # Of all its operations only the time embedding, hoisted out, does not grow with the batch.
    assert alone["full"].macs * 2 == both["full"].macs
    assert alone["text"].macs * 2 == both["text"].macs


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plan_without_guidance_takes_nothing_negative_and_no_scale(
    family: str, bundle_of: Callable[[str], Bundle]
) -> None:
    with bundle_of(family).player(NONE.name, threads=1) as player:
        names = {*player.inputs, *player.feeds}
        assert not [n for n in names if n.startswith(("negative", "guidance"))]
        with pytest.raises(InputError, match="has no guidance and takes no negative prompt"):
            player.encode(PROMPT, "blurry")


@pytest.mark.parametrize("plan", [PRUNED.name, FROM_IMAGE.name])
def test_plans_without_guidance_equal_the_eager_run(
    plan: str, bundle_of: Callable[[str], Bundle]
) -> None:
    verdict = verify(bundle_of("sd"), plan)
    assert verdict.good, verdict.sentence


def edited_index(folder: Path, **changes: object) -> Path:
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "usual"),
    [
        ({}, "classifier-free"),
        ({"is_distilled": True}, "none"),
        ({"scheduler": ["diffusers", "LCMScheduler"]}, "none"),
        ({"scheduler": ["diffusers", "TCDScheduler"]}, "none"),
    ],
    ids=["usual", "is_distilled", "LCM", "TCD"],
)
def test_a_checkpoint_that_is_distilled_has_no_guidance_unless_the_schedule_says_so(
    changes: dict[str, object], usual: str, tmp_path: Path
) -> None:
    folder = edited_index(write_model(tmp_path / "model", levels=2), **changes)
    model = models.load(str(folder), weights=False)
    assert model.guidance_of(Schedule.load("full")) == usual
    for guidance in ("classifier-free", "none"):
        written = Schedule.load("full").model_copy(update={"guidance": guidance})
        assert model.guidance_of(written) == guidance


def test_an_export_may_be_told_the_guidance_of_all_its_schedules(
    folders: dict[str, Path], bundle_of: Callable[[str], Bundle], tmp_path: Path
) -> None:
    bundle = export(folders["sd"], [FULL], tmp_path / "out", guidance="none")
    assert "guidance_scale" not in bundle.plan(FULL.name).values
    found = played(bundle, FULL.name)["latents"]
    np.testing.assert_array_equal(found, played(bundle_of("sd"), NONE.name)["latents"])


def test_an_unknown_guidance_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="guidance is 'half': known are classifier-free, none"):
        export(tmp_path, [FULL], tmp_path / "out", guidance="half")  # type: ignore[arg-type]


def test_the_tests_above_would_notice_guidance(
    bundle_of: Callable[[str], Bundle],
) -> None:
    guided = played(bundle_of("sd"), FULL.name, guidance_scale=GUIDANCE_SCALE)["latents"]
    alone = played(bundle_of("sd"), FULL.name, guidance_scale=1.0)["latents"]
    assert distance(guided, alone) > 100 * TOLERANCE
