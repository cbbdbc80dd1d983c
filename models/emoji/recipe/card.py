"""The figures of evaluation.json as the generated part of README.md."""

from __future__ import annotations

from typing import Any

from recipe_common.card import table_of_parts


def figures(report: dict[str, Any]) -> str:
    """The generated part of the card, in Markdown."""
    facts, data, sampling = report["training"], report["data"], report["sampling"]
    styles = " and ".join(f"{n} {style}" for style, n in data["training pictures"].items())
    pictures = sum(data["training pictures"].values())
    own = report["nearest_is_own"]
    lines = [
        f"Recipe `{report['recipe']}`: {pictures} pictures ({styles}) of {data['training names']} "
        f"names; {data['held-out names']} names are held out of everything.",
        f"Autoencoder: {facts['autoencoder minutes']:.0f} minutes, "
        f"{facts['autoencoder steps']:,} steps; then the decoder alone: "
        f"{facts['autoencoder-polished minutes']:.0f} minutes, "
        f"{facts['autoencoder-polished steps']:,} steps.",
        f"UNet and text encoder: {facts['denoiser minutes']:.0f} minutes, "
        f"{facts['denoiser steps']:,} steps, {facts['denoiser samples']:,} samples.",
        "",
        *table_of_parts(report),
        "",
        f"One picture with guidance, {sampling['timed_steps']} steps of "
        f"{sampling['timed_scheduler']}, "
        f"float32, {report['threads']} CPU threads: {report['seconds_for_one_picture']} s.",
        "",
        f"Samples for the sheet and the table: {sampling['steps']} steps of "
        f"{sampling['scheduler']}, "
        f"guidance {sampling['guidance_scale']}.",
        "",
        "| FD-VGG of | against | pictures | distance |",
        "|---|---|---:|---:|",
    ]
    for row in report["fd_vgg"]:
        one, other = row["pictures"]
        lines.append(f"| {row['of']} | {row['against']} | {one}, {other} | {row['fd']} |")
    lines += [
        "",
        "Samples whose nearest training picture, on the same features, is that of their own "
        f"caption: {own['often'][0]} of {own['often'][1]} for the names shown often, "
        f"{own['others'][0]} of {own['others'][1]} for the others (by chance: 1 in {pictures}).",
        f"The autoencoder brings held-out pictures back at {report['autoencoder_psnr_db']} dB.",
    ]
    return "\n".join(lines) + "\n"
