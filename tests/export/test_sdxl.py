"""Checkpoints shaped like SDXL and like Stable Diffusion 2.1, against diffusers and eager runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from export.drawn import GUIDANCE_SCALE, PROMPT, distance, drawn, noise, pipeline, played
from exports_for_tests import with_sampler
from models_for_tests import PICTURE, write_model, write_xl_model
from safetensors.numpy import save_file

from keepstep.exporter import export, models
from keepstep.exporter.check.verify import verify
from keepstep.exporter.schedule.schema import parse
from keepstep.exporter.stages.variant import WINDOW_STEP
from keepstep.runtime import Bundle

# Float32 rounding over eight calls, plus 1e-7 in the coefficients of Euler, which computes in
# float32 itself; the project's bar.
TOLERANCE = 1e-4
# The project's bar for cached plans.
CACHED_TOLERANCE = 1e-3

FULL = with_sampler("euler")
CACHED = parse(
    "keepstep: 1\nname: cached\nsampler: {scheduler: EulerDiscreteScheduler, steps: 6}\n"
    'cache: {branch: 0}\ncalls: "FsFs.s"'
)
SIZE = (PICTURE, PICTURE)


@pytest.fixture(scope="module")
def xl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_xl_model(tmp_path_factory.mktemp("model") / "xl")


@pytest.fixture(scope="module")
def xl(xl_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(xl_folder, [FULL, CACHED], tmp_path_factory.mktemp("bundle") / "xl")


def test_ids_of_each_tokenizer_are_those_that_its_encoder_knows(
    xl: Bundle, xl_folder: Path
) -> None:
    configs = {"": "text_encoder", "_2": "text_encoder_2"}
    expected = {}
    for suffix, folder in configs.items():
        config = json.loads((xl_folder / folder / "config.json").read_text())
        for prefix in ("", "negative_"):
            expected[f"{prefix}token_ids{suffix}"] = (0, config["vocab_size"] - 1)
    found = {n: v.range for n, v in xl.plan("cached").values.items() if v.range}
    assert found == expected


def time_ids(original: tuple[int, int], crop: tuple[int, int]) -> dict[str, np.ndarray]:
    ids = np.array([[*original, *crop, *SIZE]], np.float32)
    return {"time_ids": ids, "negative_time_ids": ids}


@pytest.mark.parametrize(
    ("original", "crop"), [(SIZE, (0, 0)), ((1024, 768), (96, 8))], ids=["whole", "cropped"]
)
def test_an_xl_plan_equals_the_pipeline_told_of_the_same_sizes(
    original: tuple[int, int], crop: tuple[int, int], xl: Bundle, xl_folder: Path
) -> None:
    ours = played(xl, FULL.name, **time_ids(original, crop))["latents"]
    theirs = drawn(
        xl_folder,
        FULL.name,
        height=PICTURE,
        width=PICTURE,
        original_size=original,
        crops_coords_top_left=crop,
    )
    assert distance(ours, theirs) <= TOLERANCE


def test_the_sizes_that_an_xl_plan_is_told_change_the_picture(xl: Bundle) -> None:
    """By more than the tolerance of the test above, which would otherwise say nothing of them."""
    whole, cropped = (
        played(xl, FULL.name, **time_ids(*sizes))["latents"]
        for sizes in ((SIZE, (0, 0)), ((1024, 768), (96, 8)))
    )
    assert distance(cropped, whole) > 100 * TOLERANCE


@pytest.mark.parametrize("plan", [FULL.name, "cached"])
def test_an_xl_plan_equals_the_eager_run_of_its_schedule(plan: str, xl: Bundle) -> None:
    verdict = verify(xl, plan)
    assert verdict.good, verdict.sentence
    assert verdict.run
    assert verdict.run.error <= CACHED_TOLERANCE


def test_what_an_xl_network_derives_from_timestep_and_sizes_is_no_part_of_the_loop(
    xl: Bundle,
) -> None:
    """Sizes are added to the time embedding, so that every projection of it depends on both."""
    for name in xl.plans:
        plan = xl.plan(name)
        launched = [call.stage for call in plan.calls]
        assert launched.count("conditioning") == 1
        for stage in {call.stage for call in plan.calls if call.step is not None}:
            weights = plan.stages[stage].weights
            assert not [w for w in weights if "time_emb" in w or "add_embedding" in w]
        for tensor in plan.stages["conditioning"].outputs.values():
            assert tensor.shape[0] == 2 * WINDOW_STEP, "a row for each half, call by call"


def test_a_lora_equals_the_pipelines(xl: Bundle, xl_folder: Path, tmp_path: Path) -> None:
    """Of both encoders, the first one's last layer, which is not computed, included; and of the
    projections of the time embedding, which are weights here as they depend on sizes, too."""
    made, rng, lora = pipeline(xl_folder, FULL.name)[0], np.random.default_rng(8), {}
    ends = ("to_q", "to_v", "ff.net.2", "time_emb_proj", "q_proj", "fc2")
    for component in ("unet", "text_encoder", "text_encoder_2"):
        for path, module in getattr(made, component).named_modules():
            if path.endswith(ends):
                out, inner = module.weight.shape
                down = rng.standard_normal((4, inner), dtype=np.float32) / np.sqrt(inner)
                lora[f"{component}.{path}.lora_A.weight"] = down.astype(np.float32)
                up = rng.standard_normal((out, 4), dtype=np.float32)
                lora[f"{component}.{path}.lora_B.weight"] = up
    path = tmp_path / "style.safetensors"
    save_file(lora, path)
    ours = played(xl.with_loras([(path, 0.5)]), FULL.name)["latents"]
    theirs = drawn(xl_folder, FULL.name, (path, 0.5), height=PICTURE, width=PICTURE)
    assert distance(ours, theirs) <= TOLERANCE
    assert distance(played(xl, FULL.name)["latents"], theirs) > 100 * TOLERANCE


def test_an_xl_plan_may_be_given_embeddings_in_place_of_tokens(xl: Bundle, xl_folder: Path) -> None:
    model = models.load(str(xl_folder))
    embedded = {name: tensor.numpy() for name, tensor in model.embed([PROMPT]).items()}
    assert {"pooled_prompt_embeds", "negative_pooled_prompt_embeds"} <= embedded.keys()
    launched: list[str] = []
    with xl.player(FULL.name, threads=1) as player:
        given = {**embedded, "noise": noise(), "guidance_scale": GUIDANCE_SCALE}
        found = player.run(given, progress=lambda _d, _t, call: launched.append(call.stage))
    assert launched[0] == "prompt"
    expected = played(xl, FULL.name, **time_ids(SIZE, (0, 0)))
    assert distance(found["latents"], expected["latents"]) <= TOLERANCE


def test_a_model_shaped_like_stable_diffusion_2_equals_the_pipeline(tmp_path: Path) -> None:
    """Velocities, linear projections, and a number of heads for each level."""
    folder = write_model(
        tmp_path / "two", levels=2, linear=True, prediction_type="v_prediction", seed=2
    )
    unet = models.load(str(folder), weights=False).denoiser.module
    assert unet.config.use_linear_projection
    assert len(unet.config.attention_head_dim) == 2
    bundle = export(folder, [FULL], tmp_path / "out")
    ours = played(bundle, FULL.name)["latents"]
    assert distance(ours, drawn(folder, FULL.name)) <= TOLERANCE
