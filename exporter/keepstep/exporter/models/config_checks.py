"""What a config may say so that the exported networks are the model's own; refused in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keepstep.runtime.quoting import quote

from ..errors import ModelError
from ..folder.small_json import AGAIN

MOST_PIXELS = 16384  # a side of the picture


def picture_size(
    height: int | None,
    width: int | None,
    native: object,
    factor: int,
    unit: int,
    where: str,
    component: str = "unet",
) -> tuple[int, int]:
    """Height and width of the picture in pixels, as asked for or as the network was trained.

    native   `sample_size` of the network, which is the `component`
    factor   pixels a side of each latent
    unit     of which both must be multiples
    """
    h, w = native_size(native, f"{where}/{component}")
    asked = {"height": height or h * factor, "width": width or w * factor}
    for name, size in asked.items():
        if size == 0:
            raise ModelError(
                f"{where}/{component}: config.json has no sample_size: give --height and --width"
            )
        if not 0 < size <= MOST_PIXELS or size % unit:
            raise ModelError(
                f"{name} {size} does not fit {where}: give a multiple of {unit} pixels "
                f"up to {MOST_PIXELS}"
            )
    return asked["height"], asked["width"]


def native_size(sample_size: object, where: str) -> tuple[int, int]:
    """Height and width of the latents that a UNet was trained for; 0 where that is not said."""
    if sample_size is None:
        return 0, 0
    pair = sample_size if isinstance(sample_size, list | tuple) else (sample_size, sample_size)
    if len(pair) != 2 or not all(_is_count(size) for size in pair):
        raise ModelError(
            f"{where}/config.json: sample_size is {quote(sample_size)}, expected a whole number "
            f"or two. {AGAIN}"
        )
    return int(pair[0]), int(pair[1])


def text_width(cross_attention_dim: object, where: str) -> int:
    """Features of one token of an embedded prompt; a list has them for every level."""
    entries = cross_attention_dim
    widths = set(entries) if isinstance(entries, list | tuple) else {entries}
    (width, *others) = widths
    if others or not _is_count(width):
        raise ModelError(
            f"{where}/config.json: cross_attention_dim is {quote(cross_attention_dim)}, expected "
            "one whole number, the same for every level: a prompt has one width"
        )
    return int(str(width))


def prompt_length(tokenizers: Mapping[str, Any], encoders: Mapping[str, Any], where: str) -> int:
    """Token ids a prompt: what its tokenizers say, or what its text encoders have positions for.

    tokenizers, encoders   in the same order
    """
    lengths = []
    for tokenizer, encoder in zip(tokenizers.values(), encoders.values(), strict=True):
        said, positions = tokenizer.model_max_length, encoder.config.max_position_embeddings
        unsaid = said > 10**6  # transformers' own number for a tokenizer that says nothing
        lengths.append(int(positions if unsaid else said))
        if not 3 <= lengths[-1] <= positions:
            raise ModelError(
                f"{where}: prompts of {lengths[-1]} ids (model_max_length of the tokenizer), "
                f"expected 3 to {positions}, the positions of the text encoder. {AGAIN}"
            )
    if len(set(lengths)) > 1:
        raise ModelError(
            f"{where}: prompts of {' and '.join(map(str, lengths))} ids (model_max_length of the "
            "tokenizers), expected the same number, since both embeddings are joined"
        )
    return lengths[0]


def check_text(
    unet: Mapping[str, Any],
    tokenizers: Mapping[str, Any],
    encoders: Mapping[str, Any],
    where: str,
) -> None:
    """Refuse text encoders that fit neither the UNet nor their tokenizers."""
    check_widths(unet, encoders, where)
    check_tokenizers(tokenizers, encoders, where)


def check_tokenizers(
    tokenizers: Mapping[str, Any], encoders: Mapping[str, Any], where: str
) -> None:
    """Refuse ids that a text encoder has no embedding for, and prompts that cannot be filled up."""
    for tokenizer, encoder in zip(tokenizers.values(), encoders.values(), strict=True):
        known = encoder.config.vocab_size
        highest = max(tokenizer.get_vocab().values(), default=-1)
        if highest >= known:
            raise ModelError(
                f"{where}: the tokenizer has ids up to {highest}, the text encoder embeds "
                f"{known}: save both together, with the embeddings resized"
            )
        if tokenizer.pad_token_id is None:
            raise ModelError(
                f"{where}: the tokenizer has no pad_token, so short prompts cannot be filled up: "
                "name one in tokenizer_config.json"
            )


def check_unet(
    unet: Any, vae: Mapping[str, Any], added: str | None, family: str, where: str
) -> None:
    """Refuse what has a family's parts but takes more than prompt, latents and timestep.

    added   what is added to the UNet's time embedding in this family
    """
    channels = {unet.in_channels, unet.out_channels, vae["latent_channels"]}
    extras = {
        name: unet.get(name)
        for name in ("class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")
        if unet.get(name) is not None
    }
    if unet.addition_embed_type != added:
        extras["addition_embed_type"] = unet.addition_embed_type
    if len(channels) > 1:
        extras["in_channels"] = unet.in_channels
    if extras:
        found = ", ".join(f"{name} {value}" for name, value in extras.items())
        raise ModelError(
            f"{where}/unet: {found}: expected a {family} text-to-image network; "
            "inpainting, upscaling and guidance-distilled ones are not supported"
        )
    check_parts(unet, vae, where)


def check_parts(unet: Mapping[str, Any], vae: Mapping[str, Any], where: str) -> None:
    """Refuse networks that are built of other parts, or told of more, than stages are made for."""
    for key, known in _KINDS.items():
        found = unet.get(key)
        for kind in found if isinstance(found, list | tuple) else [found]:
            if kind not in known:
                names = ", ".join(str(name) for name in known)
                raise ModelError(
                    f"{where}/unet/config.json: {key} has {quote(kind)}, expected one of {names}"
                )
    for key in _UNTOLD:
        if unet.get(key):
            raise ModelError(
                f"{where}/unet/config.json: {key} is {quote(unet[key])}: expected a network that "
                "is told of the prompt and the timestep alone"
            )
    check_pictures(vae, where)


def check_pictures(vae: Mapping[str, Any], where: str) -> None:
    """Refuse a VAE of other pictures than coloured ones."""
    for key in ("in_channels", "out_channels"):
        if vae.get(key) != 3:
            raise ModelError(
                f"{where}/vae/config.json: {key} is {quote(vae.get(key))}, expected 3: red, green "
                "and blue"
            )


def check_widths(unet: Mapping[str, Any], encoders: Mapping[str, Any], where: str) -> None:
    """Refuse text encoders that give a UNet something of another width than it takes."""
    given = sum(int(encoder.config.hidden_size) for encoder in encoders.values())
    taken = text_width(unet["cross_attention_dim"], f"{where}/unet")
    if given != taken:
        raise ModelError(
            f"{where}: the text encoder gives {given} features a token, the UNet takes {taken} "
            f"(cross_attention_dim): they are not of the same model. {AGAIN}"
        )
    if unet.get("addition_embed_type") == "text_time":
        pooled = list(encoders.values())[-1].config.projection_dim
        time = unet.get("addition_time_embed_dim") or 0
        added = unet.get("projection_class_embeddings_input_dim")
        if pooled + 6 * time != added:
            raise ModelError(
                f"{where}: the text encoder gives {pooled} pooled features and six numbers become "
                f"{time} each, but the UNet takes {added} (projection_class_embeddings_input_dim): "
                f"they are not of the same model. {AGAIN}"
            )


_KINDS: Mapping[str, tuple[str | None, ...]] = {
    f"{way.lower()}_block_types": (
        f"{way}Block2D",
        f"CrossAttn{way}Block2D",
        f"Attn{way}Block2D",
        f"Resnet{way}sampleBlock2D",
    )
    for way in ("Down", "Up")
} | {
    "mid_block_type": (
        "UNetMidBlock2DCrossAttn",
        "UNetMidBlock2DSimpleCrossAttn",
        "UNetMidBlock2D",
        None,
    ),
    "attention_type": ("default",),
}
_UNTOLD = ("dual_cross_attention", "num_class_embeds", "class_embeddings_concat")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
