"""Compiles a model folder with two schedules into one bundle: the step that needs PyTorch.

Usage, from the repository's folder: python examples/01_export.py
"""

from __future__ import annotations

from keepstep.exporter import export

MODEL = "models/emoji"  # a diffusers folder, or a hub id
BUNDLE = "engines/emoji"


def main() -> None:
    """Export, and say what is in the bundle."""
    bundle = export(
        model=MODEL,
        schedules=["full", "dato-coco"],  # built-in names, YAML files, or Schedule objects
        out=BUNDLE,
        backends=["onnxruntime"],  # also "tensorrt-rtx": no GPU is needed to build for it
    )
    for name in bundle.plans:
        plan = bundle.plan(name)
        print(f"{name}: {len(plan.steps)} steps, {len(plan.calls)} launches of {[*plan.stages]}")
    # Both plans share the weights and every stage that they have in common.
    total = sum(entry.bytes for entry in bundle.manifest.files.values())
    print(f"{BUNDLE}: {len(bundle.manifest.files)} files, {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
