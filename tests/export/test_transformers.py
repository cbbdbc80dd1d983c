"""Plans of transformers give what diffusers' own pipelines give, text to latents and picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from export.cpp_player import built, same_to_the_bit
from export.drawn import distance
from transformers_for_tests import LATENT, T5_LENGTH, write_flux, write_pixart, write_sd3

from keepstep.exporter import Schedule, export
from keepstep.exporter.check.verify import verify
from keepstep.exporter.schedule.schema import builtin_names, parse
from keepstep.runtime import Bundle, Player

# Float32 rounding over a few calls; the project's bar.
TOLERANCE = 1e-4
# The project's bar for cached plans.
CACHED_TOLERANCE = 1e-3

PROMPT = "A Red apple"  # PixArt's pipelines take it in small letters
NEGATIVE = "r"
STEPS = 5
SEEDS = (1, 2, 3)
SQUARE, ODD = (2 * LATENT, 2 * LATENT), (2 * LATENT - 8, 2 * LATENT + 16)
OF_FLOW = "use_flow_sigmas: true, prediction_type: flow_prediction, flow_shift: 3.0"


@dataclass(frozen=True)
class Case:
    """A family's folder, and how its pipeline is called.

    samplers   by name, as a schedule's YAML has them
    how        arguments of the pipeline's call
    outside    parts of the names of weights that depend on no latents
    other      a second size to export for; nothing where another case of the family has it
    """

    write: Callable[[Path], Path]
    samplers: Mapping[str, str]
    how: Mapping[str, object]
    guidance_scale: float
    outside: Sequence[str]
    channels: int = 4
    other: tuple[int, int] | None = None


FLOW = {
    "own": "",
    "dpm": f"scheduler: DPMSolverMultistepScheduler, {OF_FLOW}",
    "unipc": f"scheduler: UniPCMultistepScheduler, {OF_FLOW}",
}
T5 = {"max_sequence_length": T5_LENGTH}
AS_IT_IS = {**T5, "clean_caption": False, "use_resolution_binning": False}
MODULATION = ("norm1.linear", "norm1_context.linear", "norm.linear", "norm_out.linear")
OF_JOINT = ("time_text_embed", "context_embedder", *MODULATION)
OF_CROSS = ("adaln_single", "caption_projection", "attn2.to_k", "attn2.to_v")
SD3 = Case(write_sd3, FLOW, T5, 4.0, OF_JOINT, channels=8, other=(2 * LATENT - 8, 2 * LATENT))
PIXART = Case(
    write_pixart,
    {"own": "", "ddim": "scheduler: DDIMScheduler, clip_sample: false"},
    AS_IT_IS,
    4.0,
    OF_CROSS,
    other=ODD,
)
FLUX = Case(write_flux, FLOW, T5, 3.0, OF_JOINT, other=ODD)
ALONE: Mapping[str, Any] = {"samplers": {"own": ""}, "other": None}
CASES = {
    "sd3": SD3,
    "sd3.5": replace(
        SD3,
        write=lambda folder: write_sd3(folder, qk_norm="rms_norm", dual_attention_layers=(0, 1)),
        **ALONE,
    ),
    "pixart": PIXART,
    "pixart-alpha": replace(PIXART, write=lambda folder: write_pixart(folder, alpha=True), **ALONE),
    "flux": FLUX,
    "schnell": replace(
        FLUX, write=lambda folder: write_flux(folder, told=False), guidance_scale=0.0, **ALONE
    ),
}


def schedule(name: str, settings: str) -> Schedule:
    sampler = f"{settings}, steps: {STEPS}" if settings else f"steps: {STEPS}"
    return parse(f"keepstep: 1\nname: {name}\nsampler: {{{sampler}}}\ncalls: {{repeat: F}}")


# Variants of families that `make test` has anyway: only what differs is theirs.
VARIANTS = ("sd3.5", "pixart-alpha", "schnell")


@pytest.fixture(
    scope="module",
    params=[pytest.param(c, marks=[pytest.mark.long] * (c in VARIANTS)) for c in CASES],
)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def folder(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return case.write(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def bundle(case: Case, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    schedules = [schedule(name, settings) for name, settings in case.samplers.items()]
    out = tmp_path_factory.mktemp("bundle") / "square"
    height, width = SQUARE
    blocks = Schedule.load("blocks-n3")
    return export(folder, [*schedules, blocks], out, height=height, width=width)


def noise(case: Case, size: tuple[int, int], seed: int) -> np.ndarray:
    shape = (1, case.channels, size[0] // 2, size[1] // 2)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@cache
def pipeline(folder: Path, settings: str) -> Any:
    found = diffusers.DiffusionPipeline.from_pretrained(folder)
    found.set_progress_bar_config(disable=True)
    written = schedule("any", settings).sampler
    if settings:
        cls = getattr(diffusers, written.scheduler)
        found.scheduler = cls.from_config(found.scheduler.config, **written.overrides)
    return found


def drawn(
    folder: Path, case: Case, settings: str, size: tuple[int, int], start: np.ndarray, kind: str
) -> np.ndarray:
    """Latents (B, C, h, w), or the picture (B, H, W, 3) in 0 … 1."""
    found = pipeline(folder, settings)
    is_flux = isinstance(found, diffusers.FluxPipeline)
    b, c, h, w = start.shape
    latents = torch.from_numpy(start)
    given = found._pack_latents(latents, b, c, h, w) if is_flux else latents
    how = dict(case.how) if is_flux else {**case.how, "negative_prompt": NEGATIVE}
    images = found(
        prompt=PROMPT,
        height=size[0],
        width=size[1],
        num_inference_steps=STEPS,
        guidance_scale=case.guidance_scale,
        latents=given,
        output_type=kind,
        **how,
    ).images
    if is_flux and kind == "latent":
        images = found._unpack_latents(images, *size, found.vae_scale_factor)
    return np.asarray(images)


def played(bundle: Bundle, case: Case, plan: str, start: np.ndarray) -> dict[str, np.ndarray]:
    with bundle.player(plan, threads=1) as player:
        return player.run(told(player, case, start))


def told(player: Player, case: Case, start: np.ndarray) -> dict[str, np.ndarray]:
    """What a run is told: `PROMPT`, the noise, and what its guidance needs."""
    guided = "negative_token_ids" in player.inputs
    inputs = {**player.encode(PROMPT, NEGATIVE if guided else None), "noise": start}
    if "guidance_scale" in player.inputs:
        inputs["guidance_scale"] = np.array(case.guidance_scale, np.float32)
    return inputs


def test_plans_equal_the_pipeline_for_every_sampler(
    case: Case, folder: Path, bundle: Bundle
) -> None:
    for name, settings in case.samplers.items():
        for seed in SEEDS if name == "own" else SEEDS[:1]:
            start = noise(case, SQUARE, seed)
            ours = played(bundle, case, name, start)["latents"]
            theirs = drawn(folder, case, settings, SQUARE, start, "latent")
            assert distance(ours, theirs) <= TOLERANCE, (name, seed)


def test_pictures_equal_the_pipelines(case: Case, folder: Path, bundle: Bundle) -> None:
    """To a level of 255: rounding to whole numbers may turn either way."""
    start = noise(case, SQUARE, 1)
    ours = played(bundle, case, "own", start)["image"].astype(np.float64)
    theirs = drawn(folder, case, "", SQUARE, start, "np") * 255
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("case", ["sd3", "pixart", "flux"], indirect=True)
def test_other_sizes_equal_the_pipeline(case: Case, folder: Path, tmp_path: Path) -> None:
    assert case.other
    height, width = case.other
    own = [schedule("own", "")]
    bundle = export(folder, own, tmp_path / "out", height=height, width=width, verify="none")
    start = noise(case, case.other, 4)
    ours = played(bundle, case, "own", start)["latents"]
    assert distance(ours, drawn(folder, case, "", case.other, start, "latent")) <= TOLERANCE


def test_cached_blocks_equal_the_eager_run(bundle: Bundle) -> None:
    verdict = verify(bundle, "blocks-n3")
    assert verdict.good, verdict.sentence
    assert verdict.run
    assert verdict.run.error <= CACHED_TOLERANCE
    assert {step.label for step in bundle.plan("blocks-n3").steps} >= {"full", "shallow"}


@pytest.mark.parametrize("case", ["sd3"], indirect=True)
def test_published_lists_of_calls_equal_the_eager_run(folder: Path, tmp_path: Path) -> None:
    """Every built-in schedule that caches blocks, on the family with the most streams."""
    of_blocks = [s for s in map(Schedule.load, builtin_names()) if s.cache and s.cache.blocks]
    bundle = export(folder, of_blocks, tmp_path / "out", verify="run")
    assert {"residual-n3", "magcache-28", "scm-fast"} <= set(bundle.plans)
    for plan in bundle.plans:
        run = verify(bundle, plan).run
        assert run
        assert run.error <= CACHED_TOLERANCE


@built
def test_the_runtime_in_cpp_gives_the_same_to_the_bit(
    case: Case, bundle: Bundle, tmp_path: Path
) -> None:
    with bundle.player("blocks-n3") as player:
        inputs = told(player, case, noise(case, SQUARE, 5))
    same_to_the_bit(bundle, "blocks-n3", inputs, tmp_path)


def test_nothing_in_the_loop_depends_on_timestep_or_prompt_alone(
    case: Case, bundle: Bundle
) -> None:
    """No timestep's network, no modulation, no projection of the prompt or its keys and values."""
    plan = bundle.plan("blocks-n3")
    inside = {
        weight
        for call in plan.calls
        if call.step is not None
        for weight in plan.stages[call.stage].weights
    }
    assert inside
    assert not [weight for weight in inside if any(part in weight for part in case.outside)]
