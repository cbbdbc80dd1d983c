"""keepstep's runtime: plays the plans of a bundle, without PyTorch.

    from keepstep.runtime import Bundle

    player = Bundle.open("engines/emoji").player("dato-coco")
    inputs = player.encode("a red apple") | {"noise": noise, "guidance_scale": 7.5}
    outputs = player.run(inputs)            # dict of arrays
    outputs["image"]                        # uint8 (batch, height, width, 3)

`player.inputs`, `player.feeds` and `player.outputs` list names, dtypes and shapes. What a user
can mend is raised as a `KeepstepError`, whose text says how. Importing this package loads numpy
and safetensors; engine libraries are loaded by the backend that needs them.
"""

from keepstep.runtime._version import __version__
from keepstep.runtime.bundle import Bundle
from keepstep.runtime.errors import (
    BackendError,
    BundleError,
    InputError,
    KeepstepError,
    ResultError,
)
from keepstep.runtime.format.plan import Plan
from keepstep.runtime.player.player import CallTime, Player, Profile

__all__ = [
    "BackendError",
    "Bundle",
    "BundleError",
    "CallTime",
    "InputError",
    "KeepstepError",
    "Plan",
    "Player",
    "Profile",
    "ResultError",
    "__version__",
]
