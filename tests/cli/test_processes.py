"""The command as a process: what it imports, its exit codes, file size limits and real signals."""

from __future__ import annotations

import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli import tiny_bundle
from cli.outcome import Outcome, environment
from cli.tiny_bundle import contents

EXPORT_ONLY = ("torch", "diffusers", "transformers", "onnx", "onnxscript", "torchmetrics")
INTERRUPTED = Outcome(130, "", "keepstep: interrupted; nothing was written\n")

# Tests may be run where a signal is ignored, as under `nohup`, and the command keeps to that.
HEEDING = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
# The command, with the compiler replaced by what it once made: the writer is the real one.
WRITE_ONLY = """
import pickle, sys, types
from keepstep.cli import main as cli
from keepstep.exporter.store import bundle_writer
from keepstep.exporter.store.bundle_writer import write_bundle

content = pickle.loads(open("content", "rb").read())
compiler = types.ModuleType("keepstep.exporter.compiler")
compiler.export = lambda model, schedules, out, *_, **__: write_bundle(content, out)
sys.modules[compiler.__name__] = compiler
"""
SLOW_WRITER = """
import time
save = bundle_writer._save
def slow(path, arrays):
    save(path, arrays)
    print("ready", flush=True)
    time.sleep(60)
bundle_writer._save = slow
"""
SLOW_TRACE = """
import os, tempfile, torch.export
from keepstep.cli import main as cli
os.environ["KEEPSTEP_CACHE"] = tempfile.mkdtemp()
export = torch.export.export
def told(*arguments, **options):
    print("ready", flush=True)
    return export(*arguments, **options)
torch.export.export = told
"""
SLOW_ENGINE = """
import time
from keepstep.cli import main as cli
from keepstep.runtime.backends import null
def launch(session, call):
    print("ready", flush=True)
    time.sleep(60)
null.NullSession.launch = launch
"""
SLOW_PICTURE = """
import time
from PIL import Image
from keepstep.cli import main as cli
def save(image, draft, format):
    draft.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
Image.Image.save = save
"""
EXPORT = ["export", "model", "-o", "out", "-s", "full"]


def python(
    code: str, *arguments: str, limit: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"{HEEDING}{code}\ncli.main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=limit,
    )


def interrupted(process: subprocess.Popen[str]) -> Outcome:
    """Send Ctrl-C when the process says that it is ready."""
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=50)  # less than the slowed function sleeps
    finally:
        process.kill()
    return Outcome(process.returncode, out.replace("ready\n", ""), err)


def limited(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.fixture
def handed_over(workplace: Path) -> dict[str, bytes | None]:
    """What the compiler made, for the process to write."""
    (workplace / "content").write_bytes(pickle.dumps(tiny_bundle.content()))
    return contents(workplace)


@pytest.mark.parametrize("size", [100, 5_000, 20_000, 40_000])
def test_a_limit_on_file_sizes_is_one_message_and_leaves_nothing(
    size: int, handed_over: dict[str, bytes | None], workplace: Path
) -> None:
    process = python(WRITE_ONLY, *EXPORT, limit=limited(size))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == (
        "keepstep: out: cannot be written: File too large; nothing was left behind: "
        "choose another place and export again\n"
    )
    assert contents(workplace) == handed_over


def test_ctrl_c_in_the_middle_of_writing_leaves_nothing(
    handed_over: dict[str, bytes | None], workplace: Path
) -> None:
    assert interrupted(python(WRITE_ONLY + SLOW_WRITER, *EXPORT)) == INTERRUPTED
    assert contents(workplace) == handed_over


def test_ctrl_c_while_the_model_is_traced_leaves_nothing(model: Path, workplace: Path) -> None:
    arguments = ["export", str(model), "-o", "out", "-s", "full"]
    assert interrupted(python(SLOW_TRACE, *arguments)) == INTERRUPTED
    assert contents(workplace) == {}


@pytest.mark.parametrize(
    ("code", "backend"), [(SLOW_ENGINE, "null"), (SLOW_PICTURE, "onnxruntime")]
)
def test_ctrl_c_while_a_picture_is_drawn_or_written_leaves_nothing(
    code: str, backend: str, bundle: Path, workplace: Path
) -> None:
    arguments = ["run", str(bundle), "--prompt", "a", "-o", "a.png", "--backend", backend]
    assert interrupted(python(code, *arguments)) == INTERRUPTED
    assert contents(workplace) == {}


@pytest.mark.parametrize("form", ["picture", "arrays"])
def test_results_beyond_a_limit_on_file_sizes_leave_nothing(
    form: str, bundle: Path, workplace: Path
) -> None:
    arguments = {
        "picture": ["--prompt", "a", "-o", "a.png"],
        "arrays": ["--inputs", "in.safetensors", "--outputs", "out.safetensors"],
    }[form]
    if form == "arrays":
        write_golden_inputs(bundle, workplace / "in.safetensors")
    before = contents(workplace)
    code = "from keepstep.cli import main as cli"
    process = python(code, "run", str(bundle), *arguments, limit=limited(500))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.startswith(f"keepstep: {arguments[-1]}: cannot be written: ")
    assert "File too large" in err
    assert len(err.splitlines()) == 1
    assert contents(workplace) == before


def write_golden_inputs(bundle: Path, path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    golden = load_file(bundle / "golden/full.safetensors")
    save_file({k[7:]: a.copy() for k, a in golden.items() if k.startswith("inputs.")}, path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "{bundle}", "--prompt", "a", "-o", "a.png", "--threads", "1"],
        ["inspect", "{bundle}"],
        ["verify", "{bundle}", "--plan", "full"],
        ["schedules"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_playing_and_looking_need_no_packages_of_the_exporter(
    arguments: list[str], bundle: Path
) -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({EXPORT_ONLY}))"
    code += "\nfrom keepstep.cli import main as cli"
    process = python(code, *(argument.format(bundle=bundle) for argument in arguments))
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
@pytest.mark.parametrize("arguments", [["schedules"], ["inspect", "{bundle}", "--json"]])
def test_an_output_that_is_full_is_one_message(arguments: list[str], bundle: Path) -> None:
    command = [argument.format(bundle=bundle) for argument in arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "keepstep", *command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
    message = "keepstep: No space left on device: free some space, and run again\n"
    assert (done.returncode, done.stderr) == (2, message)


def test_exporting_without_its_packages_says_what_to_install(workplace: Path) -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom keepstep.cli import main as cli"
    process = python(code, *EXPORT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == "keepstep: this needs the package torch: pip install 'keepstep[export]'\n"
    assert contents(workplace) == {}


def test_the_module_runs_as_the_command_does(bundle: Path) -> None:
    command = [sys.executable, "-m", "keepstep", "inspect", str(bundle), "--plan", "x"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("keepstep: bundle ")
    assert len(done.stderr.splitlines()) == 1
