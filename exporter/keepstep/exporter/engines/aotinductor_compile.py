"""Compiles one exported program, in a process of its own: several can then be compiled at once.

Usage: python -m keepstep.exporter.engines.aotinductor_compile PROGRAM PACKAGE DEVICE METADATA
"""

from __future__ import annotations

import logging
import sys
import warnings

import torch

from keepstep.runtime.backends.aotinductor_package import METADATA_KEY, open_package

from .aotinductor import COMPILED


def compile_program(program_file: str, package_file: str, device: str, metadata: str) -> None:
    """Write the package of a program that `torch.export.save` wrote, and see whether it loads.

    A compiler whose code does not fit PyTorch's own ends this process then, and not a player's.
    """
    program = torch.export.load(program_file)
    if device != "cpu":
        from torch.export.passes import move_to_device_pass

        # With its number, or the program's own assertions of where tensors are would not hold.
        program = move_to_device_pass(program, f"{device}:0")
    torch._inductor.aoti_compile_and_package(
        program,
        package_path=package_file,
        inductor_configs={
            # As many threads as the player is told, not as many as this machine has.
            "cpp.dynamic_threads": True,
            "aot_inductor.metadata": {METADATA_KEY: metadata},
        },
    )
    sys.stderr.write(f"{COMPILED}\n")
    open_package(package_file)


def main() -> None:
    """The command line."""
    logging.disable(logging.WARNING)  # PyTorch talks about itself while it compiles
    warnings.simplefilter("ignore")
    with torch.no_grad():
        compile_program(*sys.argv[1:])


if __name__ == "__main__":
    main()
