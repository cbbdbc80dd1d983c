"""What the documentation shows is run, parsed and looked up: examples, command lines, links.

A Python block with `<!-- not run -->` on the line before it is left out. All others of a file run
one after the other, in a folder with a tiny model as models/emoji and its bundle as engines/emoji.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import typer
from cli import tiny_bundle

from keepstep.cli.main import app
from keepstep.runtime.format.plan_json import plan_from_json
from keepstep.runtime.format.validate import check_plan

ROOT = Path(__file__).resolve().parents[1]
NOT_RUN = "<!-- not run -->"
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```", re.M | re.S
)
LINK = re.compile(r"\[(?:[^\]\[]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
SOURCE = re.compile(r"<(?:img|a|source)\b[^>]*?\b(?:src|href|srcset)=\"([^\"]+)\"")
SHELLS = {"sh", "bash", "shell", "console"}


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    text: str
    line: int
    run: bool


def blocks(text: str) -> list[Block]:
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()].rstrip().rpartition("\n")[2].strip()
        indent = match["indent"]
        body = "\n".join(line.removeprefix(indent) for line in match["text"].split("\n"))
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(match["language"], body, line, before != NOT_RUN))
    return found


@cache
def documents() -> dict[str, str]:
    """Every Markdown file that git tracks, or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    except (OSError, subprocess.CalledProcessError):
        names = ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names}


def shown(*languages: str) -> list[str]:
    """The files of the README and docs/ with blocks in one of these languages."""
    return [
        name
        for name, text in documents().items()
        if (name == "README.md" or name.startswith("docs/"))
        and any(block.language in languages for block in blocks(text))
    ]


@pytest.fixture
def emoji(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the model and the bundle that the documentation speaks of."""
    shutil.copytree(tiny_bundle.model(), tmp_path / "models/emoji")
    shutil.copytree(tiny_bundle.bundle(), tmp_path / "engines/emoji")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", shown("python"))
def test_the_python_examples_of_a_document_run(name: str, emoji: Path) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(documents()[name]):
        if block.language == "python" and block.run:
            code = "\n" * (block.line - 1) + block.text  # tracebacks show the document's lines
            exec(compile(code, name, "exec"), namespace)


def commands(block: Block) -> Iterator[list[str]]:
    """The `keepstep` command lines of a shell block, as lists of arguments."""
    text = block.text.replace("\\\n", " ")
    lines = text.splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    for line in lines:
        words: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):
                yield from _arguments(words)
                words = []
            else:
                words.append(word)


def _arguments(words: list[str]) -> Iterator[list[str]]:
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    if words and Path(words[0]).name == "keepstep":
        yield words[1:]
    elif words[1:3] == ["-m", "keepstep"]:
        yield words[3:]


def parse(arguments: list[str]) -> None:
    """Parse as the command does, without running it; raises for what it would refuse."""
    group = typer.main.get_command(app)
    with group.make_context("keepstep", list(arguments)) as context:
        rest = [*context._protected_args, *context.args]
        name, command, rest = group.resolve_command(context, rest)  # type: ignore[attr-defined]
        with command.make_context(name, rest, parent=context):
            pass


@pytest.mark.parametrize("name", shown(*SHELLS))
def test_the_command_lines_of_a_document_are_understood(name: str) -> None:
    for block in blocks(documents()[name]):
        if block.language in SHELLS:
            for arguments in commands(block):
                try:
                    parse(arguments)
                except Exception as error:
                    shown_line = " ".join(["keepstep", *arguments])
                    pytest.fail(f"{name}:{block.line}: {shown_line}: {error}")


def test_a_command_line_that_would_be_refused_is_found() -> None:
    parse(["run", "b", "--prompt", "a red apple", "-o", "a.png"])
    for line in ("run b --promt x", "inspekt b", "inspect", "bench b --repeats 0"):
        with pytest.raises(Exception, match=r"\w"):
            parse(line.split())


def test_command_lines_are_found_in_every_form() -> None:
    text = "```console\n$ PATH=x .venv/bin/keepstep inspect b | head\nkeepstep no\n```\n"
    text += "```sh\npython -m keepstep \\\n  verify b  # a comment\nls && keepstep schedules\n```\n"
    text += f"{NOT_RUN}\n```python\nx = 1\n```\n\n```python\ny = 1\n```\n"
    found = blocks(text)
    assert [list(commands(block)) for block in found[:2]] == [
        [["inspect", "b"]],
        [["verify", "b"], ["schedules"]],
    ]
    assert [(block.run, block.text) for block in found[2:]] == [
        (False, "x = 1\n"),
        (True, "y = 1\n"),
    ]


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", FENCE.sub("", text), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return {*found, *re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text)}


def broken(name: str, text: str) -> list[str]:
    """The links of a document that lead nowhere."""
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    found = []
    for link in [*LINK.findall(prose), *SOURCE.findall(prose)]:
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists() or ROOT not in (target.resolve(), *target.resolve().parents):
            found.append(f"{link}: no such file")
        elif anchor and target.suffix == ".md":
            linked = target.read_text(encoding="utf-8") if path else text
            if anchor not in anchors(linked):
                found.append(f"{link}: no such heading")
    return found


@pytest.mark.parametrize("name", documents())
def test_the_links_of_a_document_lead_somewhere(name: str) -> None:
    assert broken(name, documents()[name]) == []


def test_a_link_that_leads_nowhere_is_found() -> None:
    text = (
        '# A `b`: c\n[x](no.md) [y](#a-b-c) [z](#d)\n<img src="no.png">\n`[q](no)` [u](https://x)'
    )
    assert [line.partition(":")[0] for line in broken("README.md", text)] == [
        "no.md",
        "#d",
        "no.png",
    ]


def test_the_example_of_the_plan_format_is_a_good_plan() -> None:
    (block,) = (b for b in blocks(documents()["docs/plan-format.md"]) if b.language == "json")
    plan = plan_from_json(block.text)
    check_plan(plan)
    assert plan.name == "toy"
    assert len(plan.calls) == 2
