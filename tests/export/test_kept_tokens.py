"""Calls of kept tokens: as the paper has them, as the eager run, in place, in both runtimes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export.cpp_player import built, same_to_the_bit
from export.drawn import distance
from export.pages_written import pages_written
from torch import Tensor, nn
from transformers_for_tests import LATENT, write_flux, write_pixart, write_sd3

from keepstep.exporter import export, models
from keepstep.exporter.check.in_place import check_in_place
from keepstep.exporter.check.verify import verify
from keepstep.exporter.errors import ExportError, ScheduleError
from keepstep.exporter.methods.feature_cache import watched
from keepstep.exporter.methods.kept_tokens import KEPT, NEW, KeptTokens, chooser_of, named
from keepstep.exporter.methods.method import Predictions
from keepstep.exporter.models.denoiser import Site
from keepstep.exporter.models.guidance import halves_of, joined
from keepstep.exporter.schedule.schema import Call, Schedule, parse
from keepstep.exporter.schedule.settings import Keep, Sampler
from keepstep.runtime import Bundle

TOLERANCE = 2e-6  # float32 rounding over three blocks
WHOLE_RUN = 1e-3  # the project's bar for plans that cache
SIDE = 2 * LATENT
STEPS = 12
WRITE: dict[str, Callable[[Path], Path]] = {
    "sd3": write_sd3,
    "sd3.5": lambda f: write_sd3(f, qk_norm="rms_norm", dual_attention_layers=(0, 1)),
    "pixart": write_pixart,
    "flux": write_flux,
}


def schedule(name: str, keep: str, calls: str) -> Schedule:
    lines = ("keepstep: 1", f"name: {name}", f"sampler: {{steps: {len(calls)}}}", f"keep: {keep}")
    return parse("\n".join([*lines, f"calls: {calls}"]))


@pytest.fixture(scope="module", params=WRITE)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WRITE[request.param](tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    cat = schedule("cat", "0.3", "FFFtttttFttt")
    out = tmp_path_factory.mktemp("bundle") / "out"
    return export(folder, [cat], out, height=SIDE, width=SIDE)


@pytest.mark.parametrize("folder", ["sd3", "pixart", "flux"], indirect=True)
def test_a_plan_equals_the_eager_run(bundle: Bundle) -> None:
    verdict = verify(bundle, "cat")
    assert verdict.good, verdict.sentence
    assert verdict.run
    assert verdict.run.error <= WHOLE_RUN
    assert [step.kept for step in bundle.plan("cat").steps if step.kept] == [19] * 8


@pytest.mark.parametrize("folder", ["sd3", "sd3.5", "pixart"], indirect=True)
@torch.no_grad()
def test_kept_tokens_are_predicted_as_with_all_caches_of_the_paper(folder: Path) -> None:
    """Ten calls with changing tokens: the paper keeps a residual stream of all tokens, and what
    attention and feed-forward gave for those that are not kept."""
    model = models.load(str(folder), SIDE, SIDE)
    latents, (guidance, *_) = (1, *model.latent_shape), model.guidances
    keep, halves = Keep(ratio=0.3, scorer="random"), halves_of(guidance)
    denoiser, chooser = model.denoiser, chooser_of(model.denoiser, keep, latents)
    told = joined(model.embed(["A Red apple"], ["r"], guidance))
    random = torch.Generator().manual_seed(3)

    def sample() -> Tensor:
        return torch.randn(halves, *latents[1:], generator=random)

    paths = dict(pair for i, a in enumerate(denoiser.attentions) for pair in named(i, a.path))
    first, time = sample(), torch.tensor(900.0)
    paper = Paper(denoiser.module)
    with watched(denoiser.module, [Site(path) for path in paths.values()]) as seen:
        last = denoiser.call(first, time, told)
    with paper.all_tokens():
        denoiser.call(first, time, told)
    caches = {name: seen[Site(path)].clone() for name, path in paths.items()}
    call = Call(kind="tokens", keep=keep)
    for number, index in enumerate(torch.from_numpy(chooser.table(10))):
        x, time = sample(), torch.tensor(800.0 - 50 * number)
        method = KeptTokens.of(denoiser, call, latents, halves)
        assert method
        window = Predictions(last.reshape(1, halves, *latents))
        with method.around(denoiser, window, {**caches, KEPT: index[None]}):
            fresh = denoiser.call(x, time, told)
        ours = method.merged(fresh, window)
        caches = {name: method.outputs()[NEW + name] for name in caches}
        with paper.tokens(index):
            theirs = denoiser.call(x, time, told)
        kept = torch.zeros(chooser.stream.tokens).index_fill(0, index, 1.0)
        grid = kept.reshape(1, 1, chooser.stream.rows, -1)
        where = nn.functional.interpolate(grid, scale_factor=float(chooser.stream.side)) > 0
        expected = torch.where(where, theirs, last)
        assert distance(ours.numpy(), expected.numpy()) <= TOLERANCE, number
        assert torch.equal(ours[~where.expand_as(ours)], last[~where.expand_as(ours)])
        last = ours


class Paper:
    """CAT Pruning as its authors run it: every attention and feed-forward of the picture computes
    kept tokens and has the results of the others from earlier calls."""

    def __init__(self, network: nn.Module) -> None:
        self._modules = {
            path: module
            for path, module in network.named_modules()
            if re.fullmatch(r".+\.(ff|attn[12]?(\.to_[kv])?)", path)
        }
        if any(".attn1" in path for path in self._modules):  # then the second one is to the prompt
            self._modules = {p: m for p, m in self._modules.items() if ".attn2" not in p}
        self._made: dict[str, Tensor] = {}

    @contextmanager
    def all_tokens(self) -> Iterator[None]:
        """Keep what every module gives."""
        with self._changing(lambda path, x: x):
            yield

    @contextmanager
    def tokens(self, index: Tensor) -> Iterator[None]:
        """Of the others than `index` (K,), give what was kept."""

        def change(path: str, x: Tensor) -> Tensor:
            mixed = self._made[path].clone()
            mixed[:, index] = x[:, index]
            return mixed

        with self._changing(change):
            yield

    @contextmanager
    def _changing(self, change: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
        with ExitStack() as hooks:
            for path, module in self._modules.items():

                def keep(_m: nn.Module, _a: Any, given: Any, path: str = path) -> Any:
                    both = isinstance(given, tuple)  # the picture's tokens, then the text's
                    self._made[path] = change(path, given[0] if both else given)
                    return (self._made[path], *given[1:]) if both else self._made[path]

                hooks.callback(module.register_forward_hook(keep).remove)
            yield


@pytest.mark.parametrize("folder", ["sd3"], indirect=True)
@pytest.mark.parametrize(
    "scorer",
    [
        "ras",
        "stale-only",
        *(pytest.param(rule, marks=pytest.mark.long) for rule in ("noise-only", "random", "grid")),
    ],
)
def test_every_rule_of_choice_equals_the_eager_run(
    scorer: str, folder: Path, tmp_path: Path
) -> None:
    rule = "clusters: grid" if scorer == "grid" else f"scorer: {scorer}"
    made = schedule("mine", f"{{ratio: 0.25, {rule}}}", "FFttFtt")
    bundle = export(folder, [made], tmp_path / "out", height=SIDE, width=SIDE, batch=2)
    run = verify(bundle, "mine").run
    assert run
    assert run.error <= WHOLE_RUN


@pytest.mark.parametrize("folder", ["flux"], indirect=True)
def test_all_kinds_of_calls_in_one_run_equal_the_eager_run(folder: Path, tmp_path: Path) -> None:
    made = parse(
        "keepstep: 1\nname: mine\nsampler: {steps: 11}\ncache: {blocks: [1, 1]}\n"
        "keep: {ratio: 0.4, scorer: ras}\ncalls: FFstt.tFst."
    )
    bundle = export(folder, [made], tmp_path / "out", height=SIDE, width=SIDE + 16)
    run = verify(bundle, "mine").run
    assert run
    assert run.error <= WHOLE_RUN


@pytest.mark.parametrize("folder", ["sd3", "pixart", "flux"], indirect=True)
@built
def test_the_runtime_in_cpp_gives_the_same_to_the_bit(bundle: Bundle, tmp_path: Path) -> None:
    with bundle.player("cat") as player:
        guided = "negative_token_ids" in player.inputs
        shape = player.inputs["noise"].shape
        noise = np.random.default_rng(5).standard_normal(shape, dtype=np.float32)
        inputs = {**player.encode("A Red apple", "r" if guided else None), "noise": noise}
    same_to_the_bit(bundle, "cat", inputs, tmp_path)


@pytest.mark.parametrize("folder", ["pixart"], indirect=True)
def test_a_call_writes_the_rows_of_its_tokens_and_no_others(folder: Path, tmp_path: Path) -> None:
    """Counted in pages of memory: 30 % of the tokens, which lie together here, and at most a page
    at each end of them."""
    made = schedule("mine", "{ratio: 0.3, scorer: random}", "FFt")
    bundle = export(folder, [made], tmp_path / "out", height=256, width=256, verify="none")
    plan = bundle.plan("mine")
    stage = plan.stages["tokens-random0.3"]
    kept = np.arange(int(0.3 * 64 * 64))[None]
    for tensor, written in pages_written(bundle, plan, stage, {KEPT: kept}, tmp_path).items():
        halves, rows, width = stage.outputs[tensor].shape
        expected = halves * kept.size * width * 4
        assert written <= expected + halves * 2 * 4096, tensor
        assert expected < 0.31 * halves * rows * width * 4


@pytest.mark.parametrize("folder", ["pixart"], indirect=True)
def test_an_engine_that_breaks_its_promise_is_refused(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check itself is tested in test_in_place.py: here, that an export asks it."""
    from keepstep.exporter import bundle_check
    from keepstep.exporter.request import ExportRequest

    seen: list[Mapping[str, str]] = []

    def refuse(name: str, stage: Any, *rest: Any) -> None:
        seen.append(stage.in_place)
        raise ExportError("it does not hold")

    monkeypatch.setattr("keepstep.exporter.check.in_place.check_in_place", refuse)
    asked = ExportRequest("model", [parse("keepstep: 1\nname: a\ncalls: F")], [Here()])  # type: ignore[list-item]
    with pytest.raises(ExportError, match="does not hold"):
        bundle_check.verify_bundle(bundle, asked, {}, lambda what, done, total: None)
    assert seen[0]["new.key_0"] == "key_0"
    assert check_in_place is not refuse


class Here:
    """A builder of ONNX Runtime's, as far as verification asks."""

    backend, plays_here = "onnxruntime", True


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("calls: FFt", "need `keep`, the share of tokens: add `keep: 0.3`"),
        ("keep: 0.3\ncalls: Ft", "begin with two full calls"),
        ("keep: 1.5\ncalls: FFt", "`keep.ratio`: Input should be less than 1"),
        ("keep: {ratio: 0.3, scorer: best}\ncalls: FFt", "`keep.scorer`"),
        (
            "keep: 0.3\ncalls: [full, full, tokens, {kind: tokens, keep: {scorer: ras}}]",
            "by 2 rules: give all the same `scorer`",
        ),
        (
            "keep: {ratio: 0.3, scorer: random}\ncalls: [full, full, tokens, "
            "{kind: tokens, keep: 0.5}]",
            "as many in every call: give all",
        ),
    ],
)
def test_schedules_that_make_no_sense_are_refused(lines: str, words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        parse(f"keepstep: 1\nname: mine\n{lines}")


def test_ratios_may_differ_within_a_schedule() -> None:
    made = parse(
        "keepstep: 1\nname: mine\nkeep: {ratio: 0.3, scorer: ras}\n"
        "calls: [full, full, tokens, {kind: tokens, keep: 0.5}, {kind: tokens, keep: {ratio: 0.2}}]"
    )
    assert [(c.keep.ratio, c.keep.scorer) for c in made.resolve(5, "it") if c.keep] == [
        (0.3, "ras"),
        (0.5, "ras"),
        (0.2, "ras"),
    ]
    assert parse(made.to_yaml()) == made


def test_a_unet_has_no_such_tokens(small_folder: Path, tmp_path: Path) -> None:
    made = schedule("mine", "0.3", "FFt")
    made = made.model_copy(update={"sampler": Sampler(scheduler="EulerDiscreteScheduler", steps=3)})
    with pytest.raises(ScheduleError, match="'mine': calls of kind tokens need a transformer"):
        export(small_folder, [made], tmp_path / "out")
