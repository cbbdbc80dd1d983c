"""The draft of a bundle is held against golden values before it takes the bundle's place."""

from __future__ import annotations

from collections.abc import Mapping

from keepstep.runtime import Bundle

from .check.precision_fallback import precision_fallback
from .check.verify import Model, verify
from .errors import ExportError
from .request import ExportRequest
from .work import Progress


def verify_bundle(
    bundle: Bundle, request: ExportRequest, models: Mapping[str, Model], report: Progress
) -> None:
    """Refuse a bundle that does not play what the eager run gave; raises `ExportError`.

    Only on the CPU: backends of a GPU are verified where there is one, by `keepstep verify`.

    models   plan → what makes its eager calls again
    """
    if request.verify == "none" or "onnxruntime" not in [b.backend for b in request.builders]:
        return
    for i, plan in enumerate(bundle.plans):
        report(f"verify {plan}", i, len(bundle.plans))
        verdict = verify(bundle, plan, "onnxruntime", models.get(plan))
        if not verdict.good:
            report(f"look for a precision fallback of {plan}", i, len(bundle.plans))
            kinds = precision_fallback(bundle, verdict)
            way_out = (
                f"export with {' '.join(f'--float32 {kind}' for kind in kinds)}, which repairs it"
                if kinds
                else "export with --dtype float32, or look into it with --verify none"
            )
            raise ExportError(f"{verdict.sentence}; nothing was written: {way_out}")
