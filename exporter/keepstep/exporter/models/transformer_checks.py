"""What a transformer's checkpoint must have so that its parts fit together; refused in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keepstep.runtime.quoting import quote

from ..errors import ModelError
from ..folder.small_json import AGAIN
from .config_checks import check_pictures

COMPONENT = "transformer"


def check_latents(
    transformer: Mapping[str, Any], vae: Mapping[str, Any], packed: int, where: str
) -> None:
    """Refuse a network that takes more than latents, such as a mask or another picture.

    packed   latents a token, which become its channels
    """
    given, taken = vae["latent_channels"] * packed, transformer["in_channels"]
    if given != taken:
        raise ModelError(
            f"{where}/{COMPONENT}: in_channels is {quote(taken)}, expected {given}, of the VAE's "
            f"{vae['latent_channels']} channels: inpainting and editing ones are not supported"
        )
    check_pictures(vae, where)


def check_width(config: Mapping[str, Any], key: str, given: int, what: str, where: str) -> None:
    """Refuse text encoders that give a network something of another width than it takes."""
    if (taken := config[key]) != given:
        raise ModelError(
            f"{where}: {what} has {given} features, the transformer takes {quote(taken)} ({key}): "
            f"they are not of the same model. {AGAIN}"
        )
