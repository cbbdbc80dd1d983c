"""What LoRA files call the modules of a bundle.

Diffusers and PEFT write the path of a module in the checkpoint, `unet.down_blocks.0.….to_q`.
Kohya's scripts write the same with underscores behind a prefix, `lora_unet_down_blocks_0_…_to_q`,
and for SDXL, Stable Diffusion 3 and FLUX.1 the path that it had in the original checkpoint, before
diffusers; others write that one with dots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from keepstep.runtime.lora.original_transformers import original_targets
from keepstep.runtime.lora.original_unet import original_paths
from keepstep.runtime.lora.target import Target

_DENOISERS = ("unet", "transformer")
# Behind these the path follows with underscores. OneTrainer writes `lora_transformer_`.
_PREFIXES: Mapping[str, tuple[str, ...]] = {
    "unet": ("lora_unet_",),
    "transformer": ("lora_transformer_",),
    "text_encoder": ("lora_te_", "lora_te1_"),
    "text_encoder_2": ("lora_te2_",),
    "text_encoder_3": ("lora_te3_",),
}
_T5_PREFIX = "lora_te3_"  # also where T5 is the second encoder, as in FLUX.1
_T5_PATH = "encoder.block."
# Before the paths of a denoiser: nothing, or as PEFT saves a model of its own.
_BEFORE_PATHS = ("", "base_model.model.")
# Before those of original checkpoints: as PEFT's, or ComfyUI's.
_BEFORE_ORIGINALS = ("base_model.model.", "diffusion_model.")


def spellings(modules: Iterable[str]) -> dict[str, Target]:
    """Every spelling of the given modules, and of what they are fused to → where it lies.

    `modules` are plain paths that begin with their component: `unet.mid_block.….to_q`.
    """
    modules = list(modules)
    found = {}
    for module in modules:
        component, _, path = module.partition(".")
        for name in _names(component, path):
            found[name] = Target((module,))
    for component in _DENOISERS:
        prefix = f"{component}."
        paths = [m.removeprefix(prefix) for m in modules if m.startswith(prefix)]
        for original, target in _originals(component, paths).items():
            placed = Target(tuple(prefix + path for path in target.modules), target.swapped)
            found["lora_unet_" + original.replace(".", "_")] = placed
            if component == "transformer":
                found |= {before + original: placed for before in _BEFORE_ORIGINALS}
    return found


def _names(component: str, path: str) -> Iterator[str]:
    """What a module is called by its path in diffusers."""
    yield f"{component}.{path}"
    prefixes = _PREFIXES.get(component, ())
    if path.startswith(_T5_PATH) and _T5_PREFIX not in prefixes:
        prefixes = (*prefixes, _T5_PREFIX)
    for prefix in prefixes:
        yield prefix + path.replace(".", "_")
    if component in _DENOISERS:
        yield from (before + path for before in _BEFORE_PATHS)


def _originals(component: str, paths: list[str]) -> Mapping[str, Target]:
    """What a denoiser's modules are called in original checkpoints."""
    if component == "transformer":
        return original_targets(paths)
    return {name: Target((path,)) for name, path in original_paths(paths).items()}
