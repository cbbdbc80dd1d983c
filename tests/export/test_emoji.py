"""The trained model with the built-in schedules: what is launched, and what comes out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from exports_for_tests import BUILT_IN, EMOJI

from keepstep.exporter import export, models
from keepstep.exporter.check.golden import PROMPT
from keepstep.exporter.check.verify import WHOLE_RUN, verify
from keepstep.runtime import Bundle
from keepstep.runtime.format.plan import Plan


@pytest.mark.parametrize("plan", BUILT_IN)
def test_every_stage_of_a_plan_is_what_the_eager_one_is(plan: str, emoji_bundle: Bundle) -> None:
    verdict = verify(emoji_bundle, plan)
    assert verdict.good, verdict.sentence
    assert [stage.stage for stage in verdict.stages] == list(emoji_bundle.plan(plan).stages)


@pytest.mark.long  # three whole runs, and each of them again for their export
def test_every_plan_equals_the_eager_run_of_its_schedule(tmp_path: Path) -> None:
    bundle = export(EMOJI, BUILT_IN, tmp_path / "emoji")
    for plan in BUILT_IN:
        verdict = verify(bundle, plan)
        assert verdict.run
        assert verdict.good, verdict.sentence


def test_the_dato_plan_launches_26_network_stages_and_one_of_each_other(
    emoji_bundle: Bundle,
) -> None:
    with emoji_bundle.player("dato-coco", backend="null") as player:
        launched = [call.stage for call in player.plan.calls]
    kinds = Counter(stage.partition("-")[0] for stage in launched)
    assert kinds == {"text": 1, "prompt": 1, "full": 5, "shallow": 21, "decode": 1}


@pytest.mark.parametrize("plan", BUILT_IN)
def test_network_stages_embed_no_time_and_project_no_prompt(
    plan: str, emoji_bundle: Bundle
) -> None:
    loaded = emoji_bundle.plan(plan)
    for name in _network_stages(loaded):
        model = _onnx(emoji_bundle, loaded, name)
        touched = " ".join(tensor.name for tensor in model.graph.initializer)
        assert "unet.conv_in.weight" in touched  # the names are those of the checkpoint
        assert "time_emb" not in touched
        assert "attn2.to_k" not in touched
        assert "attn2.to_v" not in touched
        assert not {node.op_type for node in model.graph.node} & {"Sin", "Cos"}
        inputs = {value.name for value in model.graph.input}
        assert not inputs & {"timestep", "prompt_embeds", "negative_prompt_embeds"}


@pytest.mark.parametrize("plan", BUILT_IN)
def test_ids_are_those_that_the_text_encoder_has_embeddings_for(
    plan: str, emoji_bundle: Bundle
) -> None:
    known = models.load(EMOJI).text.encoders["text_encoder"].get_input_embeddings().num_embeddings
    ranges = {n: v.range for n, v in emoji_bundle.plan(plan).values.items() if v.range}
    assert ranges == dict.fromkeys(("token_ids", "negative_token_ids"), (0, known - 1))


def test_the_shallow_stage_holds_nothing_of_the_mid_block(emoji_bundle: Bundle) -> None:
    plan = emoji_bundle.plan("dato-coco")
    (shallow,) = (name for name in plan.stages if name.startswith("shallow"))
    weights = [tensor.name for tensor in _onnx(emoji_bundle, plan, shallow).graph.initializer]
    assert any("up_blocks.2" in name for name in weights)
    assert not any("mid_block" in name for name in weights)


@pytest.mark.parametrize("plan", BUILT_IN)
def test_no_engine_selects_more_than_tensorrt_can(plan: str, emoji_bundle: Bundle) -> None:
    loaded = emoji_bundle.plan(plan)
    for name in loaded.stages:
        model = _onnx(emoji_bundle, loaded, name)
        constants = {t.name: onnx.numpy_helper.to_array(t) for t in _inline(model)}
        for node in model.graph.node:
            if node.op_type == "TopK":
                assert int(constants[node.input[1]].item()) <= 3840


def test_plans_share_stages_and_weights(emoji_bundle: Bundle) -> None:
    used = [
        engine
        for plan in emoji_bundle.plans
        for stage in emoji_bundle.plan(plan).stages.values()
        for engine in stage.engines.values()
    ]
    # text, prompt and decode once; full, full with cache, shallow, and both again with pruning
    assert len(set(used)) == 8
    sizes = {path: entry.bytes for path, entry in emoji_bundle.manifest.files.items()}
    # Golden values aside: they are for checking, and small beside a model of a real size.
    played = sum(size for path, size in sizes.items() if not path.startswith("golden/"))
    assert played <= 1.1 * sizes["weights.safetensors"]


def test_embeddings_may_be_given_in_place_of_tokens(emoji_bundle: Bundle) -> None:
    """On a plan that selects no tokens: the last bits of embeddings may decide a tie."""
    golden = emoji_bundle.golden("deepcache-n3")
    inputs = {n.removeprefix("inputs."): a for n, a in golden.items() if n.startswith("inputs.")}
    with emoji_bundle.player("deepcache-n3") as player:
        expected = player.run(inputs)["latents"]
    del inputs["token_ids"], inputs["negative_token_ids"]
    model = models.load(str(EMOJI))
    inputs |= {name: tensor.numpy() for name, tensor in model.embed([PROMPT], [""]).items()}
    launched: list[str] = []
    with emoji_bundle.player("deepcache-n3") as player:
        found = player.run(inputs, progress=lambda _d, _t, call: launched.append(call.stage))
    assert launched[0] == "prompt"
    assert "text" not in launched
    difference = np.linalg.norm(found["latents"] - expected)
    assert difference <= WHOLE_RUN["float32"] * np.linalg.norm(expected)


def _network_stages(plan: Plan) -> set[str]:
    return {call.stage for call in plan.calls if call.step is not None}


def _onnx(bundle: Bundle, plan: Plan, stage: str) -> onnx.ModelProto:
    path = bundle.file(plan.stages[stage].engines["onnxruntime"])
    return onnx.load(str(path), load_external_data=False)


def _inline(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    external = onnx.TensorProto.EXTERNAL
    return [t for t in model.graph.initializer if t.data_location != external]
