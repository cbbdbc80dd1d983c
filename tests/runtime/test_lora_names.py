from __future__ import annotations

import pytest

from keepstep.runtime.lora.spellings import spellings
from keepstep.runtime.lora.target import Target


def unet(
    resnets: int, down: list[bool], up: list[bool], inner: str = "transformer_blocks.0.attn1.to_q"
) -> list[str]:
    """Modules of a UNet: levels with or without attention, `resnets` a level on the way down."""
    modules = ["unet.conv_in", "unet.conv_out", "unet.add_embedding.linear_1"]
    modules += [f"unet.mid_block.resnets.{i}.conv2" for i in range(2)]
    modules += [f"unet.mid_block.attentions.0.{inner}"]
    for side, levels, count, resize in (
        ("down", down, resnets, "downsamplers"),
        ("up", up, resnets + 1, "upsamplers"),
    ):
        for level, attends in enumerate(levels):
            block = f"unet.{side}_blocks.{level}"
            for i in range(count):
                modules += [f"{block}.resnets.{i}.conv1", f"{block}.resnets.{i}.conv_shortcut"]
                modules += [f"{block}.attentions.{i}.{inner}"] if attends else []
            modules += [f"{block}.{resize}.0.conv"] if level < len(levels) - 1 else []
    return modules


SDXL = unet(2, [False, True, True], [True, True, False])
SD15 = unet(2, [True, True, True, False], [False, True, True, True])

# Names as they stand in the checkpoints that Stability AI and CompVis published.
ORIGINAL = [
    (SDXL, "input_blocks_0_0", "conv_in"),
    (SDXL, "input_blocks_2_0_in_layers_2", "down_blocks.0.resnets.1.conv1"),
    (SDXL, "input_blocks_3_0_op", "down_blocks.0.downsamplers.0.conv"),
    (SDXL, "input_blocks_4_0_skip_connection", "down_blocks.1.resnets.0.conv_shortcut"),
    (SDXL, "input_blocks_4_1_transformer_blocks_0_attn1_to_q", "down_blocks.1.attentions.0"),
    (SDXL, "input_blocks_6_0_op", "down_blocks.1.downsamplers.0.conv"),
    (SDXL, "input_blocks_8_1_transformer_blocks_0_attn1_to_q", "down_blocks.2.attentions.1"),
    (SDXL, "middle_block_0_out_layers_3", "mid_block.resnets.0.conv2"),
    (SDXL, "middle_block_1_transformer_blocks_0_attn1_to_q", "mid_block.attentions.0"),
    (SDXL, "middle_block_2_out_layers_3", "mid_block.resnets.1.conv2"),
    (SDXL, "output_blocks_0_1_transformer_blocks_0_attn1_to_q", "up_blocks.0.attentions.0"),
    (SDXL, "output_blocks_2_2_conv", "up_blocks.0.upsamplers.0.conv"),
    (SDXL, "output_blocks_5_1_transformer_blocks_0_attn1_to_q", "up_blocks.1.attentions.2"),
    (SDXL, "output_blocks_5_2_conv", "up_blocks.1.upsamplers.0.conv"),
    (SDXL, "output_blocks_8_0_in_layers_2", "up_blocks.2.resnets.2.conv1"),
    (SDXL, "label_emb_0_0", "add_embedding.linear_1"),
    (SDXL, "out_2", "conv_out"),
    (SD15, "input_blocks_1_1_transformer_blocks_0_attn1_to_q", "down_blocks.0.attentions.0"),
    (SD15, "input_blocks_9_0_op", "down_blocks.2.downsamplers.0.conv"),
    (SD15, "input_blocks_11_0_in_layers_2", "down_blocks.3.resnets.1.conv1"),
    (SD15, "output_blocks_2_1_conv", "up_blocks.0.upsamplers.0.conv"),
    (SD15, "output_blocks_3_1_transformer_blocks_0_attn1_to_q", "up_blocks.1.attentions.0"),
    (SD15, "output_blocks_8_2_conv", "up_blocks.2.upsamplers.0.conv"),
    (SD15, "output_blocks_11_1_transformer_blocks_0_attn1_to_q", "up_blocks.3.attentions.2"),
]


@pytest.mark.parametrize(("modules", "original", "ours"), ORIGINAL)
def test_blocks_are_found_by_their_names_in_original_checkpoints(
    modules: list[str], original: str, ours: str
) -> None:
    target = spellings(modules)[f"lora_unet_{original}"]
    assert [module.startswith(f"unet.{ours}") for module in target.modules] == [True]


@pytest.mark.parametrize("modules", [SDXL, SD15])
def test_no_two_modules_have_one_name(modules: list[str]) -> None:
    found = spellings(modules)
    assert set(found.values()) == {Target((module,)) for module in modules}
    for module in modules:
        names = [name for name, meant in found.items() if meant == Target((module,))]
        # With `unet.`, without, and as PEFT; in kohya's files, there as in the original checkpoint.
        assert len(names) == 5


@pytest.mark.parametrize(
    ("encoder", "prefixes"),
    [
        ("text_encoder", {"lora_te_", "lora_te1_", "lora_te3_"}),
        ("text_encoder_2", {"lora_te2_", "lora_te3_"}),
        ("text_encoder_3", {"lora_te3_"}),
    ],
)
def test_t5_is_the_third_encoder_in_kohyas_files_wherever_it_is(
    encoder: str, prefixes: set[str]
) -> None:
    module = f"{encoder}.encoder.block.0.layer.0.SelfAttention.q"
    name = "encoder_block_0_layer_0_SelfAttention_q"
    assert set(spellings([module])) == {module, *(prefix + name for prefix in prefixes)}
