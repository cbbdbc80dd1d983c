"""The diffusers scheduler that a schedule names, with the settings of the model's own one."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from inspect import signature
from typing import Any

import diffusers
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from keepstep.runtime.quoting import quote, quote_names, sanitize

from ..errors import SamplerError
from .settings import Sampler


def is_scheduler(cls: object) -> bool:
    """Whether this is a class of diffusers' schedulers, and no stand-in or something else."""
    return isinstance(cls, type) and issubclass(cls, SchedulerMixin)


def scheduler_from(config: Mapping[str, Any], sampler: Sampler) -> SchedulerMixin:
    """The diffusers scheduler that `sampler` names, configured as the model's own one is.

    Of that one's defaults another class takes its own, as in diffusers; so `config` says its
    class (`_class_name`) and which settings are defaults (`_use_default_values`).
    """
    cls: Any = getattr(diffusers, sampler.scheduler, None)
    missing = [name for name in getattr(cls, "_backends", ()) if find_spec(name) is None]
    if missing:  # diffusers has a stand-in for a scheduler whose packages are not there
        raise SamplerError(
            f"{sampler.scheduler} needs {', '.join(missing)}: install it, or use another scheduler"
        )
    if not is_scheduler(cls):
        names = [name for name in dir(diffusers) if name.endswith("Scheduler")]
        near = get_close_matches(sampler.scheduler[:200], names, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise SamplerError(f"diffusers has no scheduler {quote(sampler.scheduler)}.{hint}")
    unknown = set(sampler.overrides) - set(signature(cls).parameters)
    if unknown:
        raise SamplerError(
            f"{sampler.scheduler} has no setting {quote_names(sorted(unknown))}: remove it from "
            "`sampler`"
        )
    settings = dict(config)
    if settings.get("_class_name") == sampler.scheduler:
        settings.pop("_use_default_values", None)  # the model's own scheduler, as it is
    try:
        made = cls.from_config(settings, **sampler.overrides)
    except Exception as error:  # whatever a third-party scheduler raises, the user chose it
        raise SamplerError(
            f"{sampler.scheduler} refuses its settings: {sanitize(error)}"
        ) from error
    if own := config.get("_class_name"):
        _check_what_is_predicted(is_of_flow(own, config), own, made)
    return made


def is_of_flow(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a scheduler of class `name` takes a prediction for the flow, noise − data."""
    if name.startswith("FlowMatch"):
        return True
    # A config keeps settings of the class that it was taken over from, also those that the class
    # `name` does not know.
    known = signature(getattr(diffusers, name, object)).parameters
    asked = {key: value for key, value in config.items() if key in known}
    return bool(asked.get("use_flow_sigmas") and asked.get("prediction_type") == "flow_prediction")


def _check_what_is_predicted(predicts_flow: bool, own: str, made: SchedulerMixin) -> None:
    """Refuse a scheduler of flow matching for a network that predicts noise, and the reverse:
    diffusers takes it, and gives a wrong picture."""
    name = type(made).__name__
    if is_of_flow(name, made.config) == predicts_flow:
        return
    if not predicts_flow:
        raise SamplerError(
            f"{name} takes predictions for the flow, and this model's own scheduler {own} does "
            "not: use that one, or another that is not of flow matching, such as DPM-Solver++"
        )
    flow = "`use_flow_sigmas: true, prediction_type: flow_prediction, flow_shift: 3`"
    knows_flow = "use_flow_sigmas" in signature(type(made)).parameters
    way = f"add {flow} to `sampler`" if knows_flow else f"use {own}"
    raise SamplerError(
        f"{name}, as it is set, does not take predictions for the flow, as this model's own "
        f"scheduler {own} does: {way}, or leave `scheduler` out"
    )
