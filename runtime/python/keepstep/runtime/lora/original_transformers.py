"""The names that modules of diffusion transformers have in original checkpoints, before diffusers.

Kohya's scripts write them, `lora_unet_double_blocks_0_img_attn_qkv`, and so do others behind
other prefixes. There, the projections to queries, keys and values are one module.
Sources: github.com/black-forest-labs/flux, `model.py` and `modules/layers.py`;
github.com/Stability-AI/sd3.5, `mmditx.py`; which is which in diffusers: the conversions in
`loaders/single_file_utils.py` of diffusers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from keepstep.runtime.lora.target import Target

# The original name → the modules of diffusers that it is made of, in the order of its rows.
_FLUX = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
_FLUX_DOUBLE = {
    "img_attn.qkv": "attn.to_q attn.to_k attn.to_v",
    "img_attn.proj": "attn.to_out.0",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "img_mod.lin": "norm1.linear",
    "txt_attn.qkv": "attn.add_q_proj attn.add_k_proj attn.add_v_proj",
    "txt_attn.proj": "attn.to_add_out",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
    "txt_mod.lin": "norm1_context.linear",
}
_FLUX_SINGLE = {
    "linear1": "attn.to_q attn.to_k attn.to_v proj_mlp",
    "linear2": "proj_out",
    "modulation.lin": "norm.linear",
}
_SD3 = {
    "x_embedder.proj": "pos_embed.proj",
    "context_embedder": "context_embedder",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
_SD3_JOINT = {
    "x_block.attn.qkv": "attn.to_q attn.to_k attn.to_v",
    "x_block.attn.proj": "attn.to_out.0",
    "x_block.attn2.qkv": "attn2.to_q attn2.to_k attn2.to_v",
    "x_block.attn2.proj": "attn2.to_out.0",
    "x_block.mlp.fc1": "ff.net.0.proj",
    "x_block.mlp.fc2": "ff.net.2",
    "x_block.adaLN_modulation.1": "norm1.linear",
    "context_block.attn.qkv": "attn.add_q_proj attn.add_k_proj attn.add_v_proj",
    "context_block.attn.proj": "attn.to_add_out",
    "context_block.mlp.fc1": "ff_context.net.0.proj",
    "context_block.mlp.fc2": "ff_context.net.2",
}
_CONTEXT_MODULATION = "context_block.adaLN_modulation.1"
# Of both families.
_FINAL = {"final_layer.adaLN_modulation.1": Target(("norm_out.linear",), swapped=True)}


def original_targets(paths: Collection[str]) -> dict[str, Target]:
    """The names of a transformer's modules in original checkpoints → paths in diffusers.

    `paths` are those of the weights that there are; what is made of others is left out, and so
    are transformers that had the same names before diffusers, or none that scripts agree on.
    """
    paths = set(paths)
    if "x_embedder" in paths:
        found = _flux(paths)
    elif "pos_embed.proj" in paths and "context_embedder" in paths:
        found = _stable_diffusion_3(paths)
    else:
        return {}
    return {name: target for name, target in found.items() if paths.issuperset(target.modules)}


def _flux(paths: Collection[str]) -> dict[str, Target]:
    found = _targets("", "", _FLUX) | _FINAL
    for i in _blocks("transformer_blocks", paths):
        found |= _targets(f"double_blocks.{i}.", f"transformer_blocks.{i}.", _FLUX_DOUBLE)
    for i in _blocks("single_transformer_blocks", paths):
        found |= _targets(f"single_blocks.{i}.", f"single_transformer_blocks.{i}.", _FLUX_SINGLE)
    return found


def _stable_diffusion_3(paths: Collection[str]) -> dict[str, Target]:
    """In the last block, text gives keys and values alone: its modulation is a shift and a scale,
    in diffusers an `AdaLayerNormContinuous`."""
    found = _targets("", "", _SD3) | _FINAL
    for i in _blocks("transformer_blocks", paths):
        block = f"transformer_blocks.{i}."
        found |= _targets(f"joint_blocks.{i}.", block, _SD3_JOINT)
        last = f"{block}attn.to_add_out" not in paths
        modulation = Target((f"{block}norm1_context.linear",), swapped=last)
        found[f"joint_blocks.{i}.{_CONTEXT_MODULATION}"] = modulation
    return found


def _targets(original: str, ours: str, names: Mapping[str, str]) -> dict[str, Target]:
    """`names`, each behind a prefix."""
    return {
        original + name: Target(tuple(ours + path for path in paths.split()))
        for name, paths in names.items()
    }


def _blocks(name: str, paths: Collection[str]) -> set[str]:
    """The numbers of the blocks that there are under a name."""
    return {path.split(".")[1] for path in paths if path.startswith(f"{name}.")}
