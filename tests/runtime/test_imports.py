from __future__ import annotations

import json
import subprocess
import sys

HEAVY = (
    *("torch", "diffusers", "transformers", "onnx", "onnxruntime", "tokenizers"),
    *("tensorrt", "tensorrt_rtx", "keepstep.exporter"),
)


def test_the_runtime_loads_nothing_heavy() -> None:
    code = "import json, sys; import keepstep.runtime; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    loaded = set(json.loads(done.stdout))
    assert "keepstep.runtime.player.player" in loaded
    assert not loaded.intersection(HEAVY)


def test_what_is_public_is_there() -> None:
    import keepstep.runtime

    for name in keepstep.runtime.__all__:
        assert getattr(keepstep.runtime, name)
