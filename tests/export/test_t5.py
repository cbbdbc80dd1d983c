"""T5 as a text encoder: left out, in half precision, and with the file that its makers publish."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from export.drawn import distance
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from transformers import T5EncoderModel
from transformers_for_tests import LATENT, T5_LENGTH, write_flux, write_pixart, write_sd3

from keepstep.bench.eager import EagerModel, Place
from keepstep.exporter import export
from keepstep.exporter.errors import ModelError
from keepstep.exporter.folder.model_folder import Choice, find_folder
from keepstep.exporter.schedule.schema import parse
from keepstep.exporter.settings import choice_of
from keepstep.runtime import Bundle

TOLERANCE = 1e-4  # float32 rounding over a few calls; the project's bar
LARGEST = 65504  # of float16
# What float16 stages add up to over three calls; one rounding is 5e-4.
CLOSE = 2e-2
PROMPT = "A Red apple"
SCALE = 4.0
STEPS = 3
PLAIN = parse(f"keepstep: 1\nname: plain\nsampler: {{steps: {STEPS}}}\ncalls: {{repeat: F}}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd3(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of Stable Diffusion 3 without T5."""
    out = tmp_path_factory.mktemp("bundle") / "without"
    return export(folder, [PLAIN], out, without_t5=True)


def start() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((1, 8, LATENT, LATENT), dtype=np.float32)


def played(bundle: Bundle, noise: np.ndarray) -> np.ndarray:
    with bundle.player("plain") as player:
        given = {**player.encode(PROMPT, "r"), "noise": noise, "guidance_scale": np.float32(SCALE)}
        return player.run(given)["latents"].copy()


def drawn(folder: Path, noise: np.ndarray, **without: None) -> np.ndarray:
    """Latents of diffusers' pipeline in float32; without: components that it is not to have."""
    pipeline: Any = diffusers.StableDiffusion3Pipeline.from_pretrained(folder, **without)
    length = {} if without else {"max_sequence_length": T5_LENGTH}
    latents = pipeline(
        PROMPT,
        negative_prompt="r",
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        latents=torch.from_numpy(noise),
        output_type="latent",
        **length,
    ).images
    return np.asarray(latents)


def test_without_t5_a_plan_equals_the_pipeline_without_it(folder: Path, bundle: Bundle) -> None:
    noise = start()
    theirs = drawn(folder, noise, text_encoder_3=None, tokenizer_3=None)
    assert distance(played(bundle, noise), theirs) <= TOLERANCE


def test_nothing_of_t5_is_in_a_bundle_without_it(bundle: Bundle) -> None:
    plan = bundle.plan("plain")
    assert not [name for name in plan.values if "token_ids_3" in name]
    weights = [weight for stage in plan.stages.values() for weight in stage.weights]
    assert weights
    assert not [weight for weight in weights if "text_encoder_3" in weight]
    assert not [path for path in bundle.manifest.files if "tokenizer_3" in path]


def test_who_loads_the_model_again_leaves_t5_out_too(folder: Path, bundle: Bundle) -> None:
    assert choice_of(bundle) == Choice(without_t5=True)
    again = EagerModel(str(folder), bundle, Place("cpu", "float32")).modules
    assert "text_encoder_3" not in again.text.encoders


@pytest.mark.parametrize("write", [write_flux, write_pixart])
def test_pipelines_that_need_t5_keep_it(write: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model_index\.json: a .*T5 cannot be left out: only"):
        find_folder(str(write(tmp_path / "model")), Choice(without_t5=True))


def test_without_t5_its_gigabytes_are_not_downloaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}

    def download(model: str, **how: object) -> str:
        asked.update(how)
        return str(folder)

    monkeypatch.setattr("diffusers.DiffusionPipeline.download", download)
    found = find_folder("somebody/some-model", Choice(without_t5=True))
    assert asked == {"variant": None, "text_encoder_3": None, "tokenizer_3": None}
    assert "text_encoder_3" not in found.weights


@pytest.fixture
def pieces() -> bytes:
    """A `spiece.model` as T5's: pieces with probabilities, and the same normalization."""
    text = "a red fin on a quick brown fox, two dogs jump over the lazy vex of zinc"
    written = BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([text] * 20 + re.findall(r"\w+", text)),
        model_writer=written,
        vocab_size=44,
        normalization_rule_name="nmt_nfkc",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return written.getvalue()


def test_a_tokenizer_of_pieces_alone_is_read(pieces: bytes, tmp_path: Path) -> None:
    """As PixArt's folders have it, without a `tokenizer.json`: ids are those of its makers."""
    folder = write_pixart(tmp_path / "model")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    (folder / "tokenizer" / "spiece.model").write_bytes(pieces)
    bundle = export(folder, [PLAIN], tmp_path / "out", verify="none")
    with bundle.player("plain") as player:
        (ids,) = player.encode("Ａ ｒｅｄ  ﬁn")["token_ids"]  # full width and a ligature
    theirs = SentencePieceProcessor(model_proto=pieces).encode("a red fin")
    assert ids.tolist() == [*theirs, 1, *[0] * (len(ids) - len(theirs) - 1)]


@pytest.fixture
def loud_folder(tmp_path: Path) -> Path:
    """Its T5 adds up numbers beyond float16, and its last norm brings them back."""
    folder = write_sd3(tmp_path / "loud")
    file = folder / "text_encoder_3" / "model.safetensors"
    factors = {name: 1e5 if ".DenseReluDense.wo." in name else 1.0 for name in load_file(file)}
    grown = {name: tensor * factors[name] for name, tensor in load_file(file).items()}
    save_file(grown, file, metadata={"format": "pt"})
    return folder


@torch.no_grad()
def test_in_float16_sums_that_overflow_stay_in_float32(loud_folder: Path, tmp_path: Path) -> None:
    """As in transformers, whose T5 in float16 gives the same; and no other operation does."""
    ids = torch.arange(3, 3 + T5_LENGTH)[None]
    exact, half = (
        T5EncoderModel.from_pretrained(loud_folder / "text_encoder_3", dtype=dtype)(
            ids, output_hidden_states=True
        )
        for dtype in (torch.float32, torch.float16)
    )
    assert exact.hidden_states[-2].abs().max() > LARGEST
    assert distance(half[0].float().numpy(), exact[0].numpy()) <= CLOSE

    # Nothing is verified, so that nothing else is found to overflow and kept in float32.
    bundle = export(loud_folder, [PLAIN], tmp_path / "half", dtype="float16", verify="none")
    noise = start()
    assert distance(played(bundle, noise), drawn(loud_folder, noise)) <= CLOSE
    # ONNX Runtime computes more in float32 on a CPU than it is told to; a GPU's libraries do not.
    stored = load_file(bundle.file("weights.safetensors"))
    products = {n for n, w in stored.items() if "text_encoder_3.encoder" in n and w.dim() == 2}
    wide = {name for name in products if stored[name].dtype == torch.float32}
    assert wide == {name for name in products if ".DenseReluDense.wo." in name}
    assert products > wide > set()
