"""The draft of a bundle is held against golden values before it takes the bundle's place."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from keepstep.runtime import Bundle

from .check.in_place import BACKEND, check_promises
from .check.precision_fallback import precision_fallback
from .check.verify import Model, verify
from .errors import ExportError
from .request import ExportRequest
from .work import Progress


def verify_bundle(
    bundle: Bundle, request: ExportRequest, models: Mapping[str, Model], report: Progress
) -> None:
    """Refuse a bundle that does not play what the eager run gave; raises `ExportError`.

    On the backends that surely play here: the engines of the others are built for a machine that
    need not be this one, and `keepstep verify` looks at them there.

    models   plan → what makes its eager calls again
    """
    if request.verify == "none":
        return
    here = [builder.backend for builder in request.builders if builder.plays_here]
    if BACKEND in here:
        check_promises(bundle)
    checks = list(product(here, bundle.plans))
    for i, (backend, plan) in enumerate(checks):
        report(f"verify {plan} on {backend}", i, len(checks))
        verdict = verify(bundle, plan, backend, models.get(plan))
        if not verdict.good:
            report(f"look for a precision fallback of {plan}", i, len(checks))
            kinds = precision_fallback(bundle, verdict)
            way_out = (
                f"export with {' '.join(f'--float32 {kind}' for kind in kinds)}, which repairs it"
                if kinds
                else "export with --dtype float32, or look into it with --verify none"
            )
            raise ExportError(f"{verdict.sentence}; nothing was written: {way_out}")
