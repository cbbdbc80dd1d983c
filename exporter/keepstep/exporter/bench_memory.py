"""Peak memory of one run, in a process of its own, so that nothing else is counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def peak_memory(bundle: Path, plan: str, model: str | None) -> int:
    """Bytes of the largest resident set while a fresh process draws one picture.

    With `model` (the folder that was exported) it runs the plan's schedule eagerly.
    """
    arguments = [str(bundle), plan, *([model] if model else [])]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", __name__, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout.split()[-1])


def _draw(bundle: str, plan: str, model: str | None) -> int:
    import resource

    from keepstep.runtime import Bundle

    from .bench_cells import CompiledCell, EagerCell, Setting

    opened = Bundle.open(bundle)
    if model:
        EagerCell(opened, plan, model, Setting()).run()
    else:
        CompiledCell(opened, plan, "onnxruntime", Setting()).run()
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent process had when it forked
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(peak.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    folder, name, *eager = sys.argv[1:]
    sys.stdout.write(f"{_draw(folder, name, eager[0] if eager else None)}\n")
