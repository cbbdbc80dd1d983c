"""Peak memory of one run, in a process of its own, so that nothing else is counted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from keepstep.runtime import Bundle
from keepstep.runtime.errors import KeepstepError

from .configurations import CompiledConfiguration, Configuration
from .eager import EagerConfiguration, EagerModel, usual_place
from .setting import Setting


def peak_memory(configuration: Configuration) -> int:
    """Bytes of the largest resident set while a fresh process draws one picture.

    Raises `KeepstepError` where that process fails.
    """
    arguments = [
        str(configuration.bundle.path),
        configuration.plan,
        configuration.how,
        *([configuration.model] if configuration.model else []),
    ]
    return int(
        alone(
            __name__,
            arguments,
            f"the peak of memory of {configuration.label}, {configuration.how},",
        )
    )


def alone(module: str, arguments: Sequence[str], what: str) -> str:
    """The last line that a module prints when it is run in a fresh process.

    `what` is what it measures, for the `KeepstepError` where it fails.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, *arguments],
        capture_output=True,
        text=True,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise KeepstepError(f"{what} was not measured: its process failed: {why}")
    return lines[-1]


def _draw(bundle: str, plan: str, how: str, model: str | None) -> int:
    import resource

    opened = Bundle.open(bundle)
    if model:
        loaded = EagerModel(model, opened, usual_place(opened))
        EagerConfiguration(opened, plan, loaded, Setting(), how).run()
    else:
        CompiledConfiguration(opened, plan, how, Setting()).run()
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent process had when it forked
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(peak.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    folder, name, backend, *eager = sys.argv[1:]
    sys.stdout.write(f"{_draw(folder, name, backend, eager[0] if eager else None)}\n")
