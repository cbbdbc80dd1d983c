"""Backends: what launches engines. A backend's library is imported when the backend is opened."""

from keepstep.runtime.backends.registry import backend, known, playable, runnable
from keepstep.runtime.backends.session import Backend, Session, Times, engine_paths
from keepstep.runtime.memory.inputs import SupportsDLPack

__all__ = [
    "Backend",
    "Session",
    "SupportsDLPack",
    "Times",
    "backend",
    "engine_paths",
    "known",
    "playable",
    "runnable",
]
