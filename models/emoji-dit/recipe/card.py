"""The figures of evaluation.json as the generated part of README.md."""

from __future__ import annotations

from typing import Any

from recipe_common.card import table_of_parts


def figures(report: dict[str, Any]) -> str:
    """In Markdown."""
    facts, data, sampling = report["training"], report["data"], report["sampling"]
    right = report["right"]
    names = [name for name in next(iter(right.values())) if name != "pictures"]
    lines = [
        f"{data['pictures']:,} pictures; there are {data['combinations']:,} combinations.",
        f"Transformer and text encoder: {facts['minutes']:.0f} minutes on {facts['threads']} CPU "
        f"thread(s), {facts['steps']:,} steps, {facts['samples']:,} samples.",
        "",
        *table_of_parts(report),
        "",
        f"One picture with guidance, {sampling['steps']} steps of {sampling['scheduler']}, "
        f"float32, {report['threads']} CPU thread(s): {report['seconds_for_one_picture']} s.",
        "",
        f"Attributes that the judge reads as they were asked for, in percent, with the interval "
        f"(Wilson, 95 %); samples with {sampling['steps']} steps and guidance "
        f"{sampling['guidance_scale']}:",
        "",
        f"| of | pictures | {' | '.join(names)} |",
        f"|---|---:|{'---:|' * len(names)}",
    ]
    for what, row in right.items():
        cells = " | ".join(_percent(row[name]) for name in names)
        lines.append(f"| {what} | {row['pictures']} | {cells} |")
    lines += [
        "",
        f"By chance all five are right once in {1 / report['chance']:,.0f} pictures. The first row "
        "is the judge's own test: drawings that it has not seen, brought through the autoencoder.",
        f"The autoencoder brings these back at {report['autoencoder_psnr_db']} dB.",
    ]
    return "\n".join(lines) + "\n"


def _percent(share: list[float]) -> str:
    value, low, high = (100 * part for part in share)
    return f"{value:.0f} ({low:.0f}–{high:.0f})"
