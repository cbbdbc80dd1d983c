"""How `keepstep-run` ends, and what it prints of what others have named."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from cli.tiny_bundle import contents
from runtime.cpp_tool import HOSTILE, PRINTED, TOOL, Tool, built, on_a_terminal
from runtime.toy_bundle import inputs
from safetensors.numpy import save_file

from keepstep.runtime import Bundle

pytestmark = built
GOOD = inputs()
ENDED = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "ended by SIGTERM",
    signal.SIGHUP: "ended by SIGHUP",
}


@pytest.mark.parametrize("by", ENDED)
def test_a_signal_leaves_nothing(by: signal.Signals, tool: Tool, bundle: Bundle) -> None:
    save_file(GOOD, "in.safetensors")
    before = contents(Path.cwd())
    files = ["--inputs", "in.safetensors", "--outputs", "out.safetensors"]
    # As many runs as can be asked for: it is still at the first of them.
    code, sent = on_a_terminal(
        bundle.path, *files, "--repeat", 1_000_000, interrupted_at="toy: run", by=by
    )
    assert code == 128 + by
    assert sent.endswith(f"keepstep-run: {ENDED[by]}; nothing was written\r\n")
    assert contents(Path.cwd()) == before


@pytest.mark.parametrize("arguments", [["x", "--list"], ["--help"], []])
def test_a_closed_output_is_refused_before_any_work(arguments: list[str], tool: Tool) -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", str(TOOL), *arguments]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120)
    assert ended.returncode == 2
    assert re.fullmatch(r"keepstep-run: the output is closed[^\n]+\n", ended.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_an_output_that_is_full_is_a_failure_of_help_too(tool: Tool) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([str(TOOL), "--help"], stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 2
    assert ended.stderr.startswith(b"keepstep-run: the output cannot be written: ")


def test_what_a_result_quotes_is_printed_as_what_it_is(tool: Tool, bundle: Bundle) -> None:
    save_file(GOOD, "in.safetensors")
    target = f"{HOSTILE}.safetensors"
    Path("a\x1b[2J\r\u202e[red]b[").mkdir()
    outcome = tool(bundle.path, "--inputs", "in.safetensors", "--outputs", target)
    assert outcome.code == 0
    assert outcome.out.startswith(f"{PRINTED}.safetensors: toy, ")
    assert Path(target).is_file()


def test_a_fifo_for_inputs_is_refused_and_not_waited_for(tool: Tool, bundle: Bundle) -> None:
    os.mkfifo("in.safetensors")
    outcome = tool(bundle.path, "--inputs", "in.safetensors")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("keepstep-run: in.safetensors: ")
