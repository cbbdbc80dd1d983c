"""How the repository is laid out: two pieces of one namespace, imports one way, small files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXPORTER, RUNTIME = ROOT / "exporter/keepstep", ROOT / "runtime/python/keepstep"
LONGEST = 320  # lines
SOURCES = {".py", ".h", ".hpp", ".cpp", ".cu"}
BUILD_MACHINE = re.compile(r"(?<![\w.])/(?:root|home|Users|work)/\w")
TEMPORARY = re.compile(r"(?<![\w.])/tmp/\w")


@cache
def files() -> tuple[Path, ...]:
    """Every file that git tracks, or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        everything = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        hidden = {".", "_"}
        return tuple(ROOT / p for p in everything if not any(q[0] in hidden for q in p.parts[:-1]))
    return tuple(path for name in listed.stdout.split("\0") if (path := ROOT / name).is_file())


# The rooms, as docs/architecture.md has them: each uses those before it alone.
RUNTIME_COMMON = ("_version", "errors", "files", "floats", "gpu", "quoting")
RUNTIME_ROOMS = ("format", "folder", "lora", "memory", "backends", "player")
COMMON = ("errors", "work", "toolchain")
COMPILER_ROOMS = (
    *("store", "schedule", "folder", "models", "methods"),
    *("graph", "engines", "stages", "plan", "check"),
)
ROOMS = (
    *(f"runtime/{name}.py" for name in RUNTIME_COMMON),
    *(f"runtime/{room}" for room in RUNTIME_ROOMS),
    "runtime",
    *(f"exporter/{name}.py" for name in COMMON),
    *(f"exporter/{room}" for room in COMPILER_ROOMS),
    *("exporter", "playing", "output", "bench", "cli"),
)


def below(*folders: Path) -> list[Path]:
    return [p for p in files() if any(p.is_relative_to(folder) for folder in folders)]


def modules(*folders: Path) -> list[Path]:
    return [path for path in below(*folders) if path.suffix == ".py"]


def named(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def imports(tree: ast.AST, inside_functions: bool) -> Iterator[str]:
    """The absolute names that a module imports, of its own package for relative imports."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "keepstep" if node.level else f"{node.module}"
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(node, inside_functions)


def test_the_namespace_has_no_init_file_of_its_own() -> None:
    for folder in (EXPORTER, RUNTIME):
        assert folder.is_dir()
        assert not (folder / "__init__.py").exists()
    for room in ROOMS:
        assert Path(room).suffix or (piece(room) / room / "__init__.py").is_file()


def test_both_pieces_are_found_under_one_name() -> None:
    import keepstep.exporter
    import keepstep.runtime

    assert Path(keepstep.exporter.__file__).is_relative_to(EXPORTER)
    assert Path(keepstep.runtime.__file__).is_relative_to(RUNTIME)


def piece(place: str) -> Path:
    """In which of the two pieces of the namespace a room, or what is in it, lies."""
    return RUNTIME if place.startswith("runtime") else EXPORTER


def room_of(path: str) -> int:
    """The number of the first room that a path within the namespace is in."""
    return next(n for n, room in enumerate(ROOMS) if path == room or path.startswith(f"{room}/"))


def used(path: str) -> Iterator[str]:
    """The files and folders of the namespace that a module imports, wherever it does so."""
    text = (piece(path) / path).read_text(encoding="utf-8")
    package = ("keepstep", *Path(path).parent.parts)
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = [*package[: len(package) - node.level + 1]] if node.level else []
        base += node.module.split(".") if node.module else []
        for name in ("", *(alias.name for alias in node.names)):
            place = "/".join([*base[1:], name] if name else base[1:])
            for found in (place, f"{place}.py"):
                if base[0] == "keepstep" and place and (piece(found) / found).exists():
                    yield found


PLACES = [
    path.relative_to(folder).as_posix()
    for folder in (EXPORTER, RUNTIME)
    for path in modules(folder)
    if path.parent != folder  # but for `python -m keepstep`
]


@pytest.mark.parametrize("path", PLACES)
def test_a_room_uses_the_rooms_before_it_and_none_behind(path: str) -> None:
    for name in used(path):
        if name not in ("exporter", "runtime"):  # beside what is taken from them
            assert room_of(name) <= room_of(path), name


def test_no_module_imports_itself_through_others() -> None:
    within: dict[str, set[str]] = {}
    for place in PLACES:
        # A package of others is what its __init__ imports; from one's own, modules are taken.
        others = {name for name in used(place) if not place.startswith(f"{name}/")}
        names = {name if name.endswith(".py") else f"{name}/__init__.py" for name in others}
        within[place] = names - {place}
    TopologicalSorter(within).prepare()  # raises a CycleError, which tells the circle


def test_every_room_is_told_of_in_order() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for rooms in (ROOMS[ROOMS.index("runtime") + 1 :], ROOMS[: ROOMS.index("runtime")]):
        folders = [room for room in rooms if not Path(room).suffix and room != "exporter"]
        told = [place for room in folders if (place := f"| `{room}/`") in text]
        assert len(told) == len(folders)
        assert told == sorted(told, key=text.index)


@pytest.mark.parametrize("path", named(modules(RUNTIME)))
def test_the_runtime_never_imports_the_exporter(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    for name in imports(ast.parse(text), inside_functions=True):
        assert not name.startswith("keepstep.exporter")
    assert "keepstep.exporter" not in text


@pytest.mark.parametrize("path", named(modules(RUNTIME)))
def test_the_runtime_loads_little_and_an_engine_library_only_in_its_backend(path: str) -> None:
    light = {*sys.stdlib_module_names, "numpy", "safetensors", "keepstep"}
    backends = RUNTIME / "runtime/backends"
    library = Path(path).stem.partition("_")[0].replace("aotinductor", "torch")
    allowed = light | ({library} if (ROOT / path).parent == backends else set())
    found = imports(ast.parse((ROOT / path).read_text(encoding="utf-8")), inside_functions=False)
    for name in found:
        assert name.partition(".")[0] in allowed, name


@pytest.mark.parametrize("path", named(modules(EXPORTER)))
def test_the_exporter_imports_engine_libraries_only_inside_functions(path: str) -> None:
    found = imports(ast.parse((ROOT / path).read_text(encoding="utf-8")), inside_functions=False)
    for name in found:
        assert name.partition(".")[0] not in {"onnxruntime", "tensorrt", "tensorrt_rtx"}


@pytest.mark.parametrize("path", named(modules(EXPORTER, RUNTIME, ROOT / "examples")))
def test_every_module_says_what_it_is_for(path: str) -> None:
    assert ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8")))


def test_no_source_file_is_long() -> None:
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in files()
        if path.suffix in SOURCES
    }
    assert lines
    assert {path: n for path, n in lines.items() if n > LONGEST} == {}


def test_no_file_names_a_place_on_a_build_machine() -> None:
    found = []
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        in_tests = path.is_relative_to(ROOT / "tests")
        for number, line in enumerate(text.splitlines(), 1):
            if BUILD_MACHINE.search(line) or (TEMPORARY.search(line) and not in_tests):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line[:200]}")
    assert found == []


def test_the_patterns_for_build_machines_find_them() -> None:
    for place in ("root", "home", "work"):
        assert BUILD_MACHINE.search(f'PATH = "/{place}/someone/x"')
    assert TEMPORARY.search("see /" + "tmp/x")
    assert not BUILD_MACHINE.search("https://example.org/home/page")


@cache
def pyproject() -> dict[str, object]:
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)  # type: ignore[no-any-return]


def setting(*keys: str) -> object:
    found: object = pyproject()
    for key in keys:
        assert isinstance(found, dict)
        found = found[key]
    return found


def test_a_wheel_holds_both_pieces_and_an_editable_install_finds_them() -> None:
    packages = setting("tool", "hatch", "build", "targets", "wheel", "packages")
    assert packages == named([EXPORTER, RUNTIME])
    roots = setting("tool", "hatch", "build", "dev-mode-dirs")
    assert roots == named([EXPORTER.parent, RUNTIME.parent])
    for folder in (EXPORTER / "exporter/schedule/builtin", RUNTIME / "runtime"):
        assert folder.is_dir(), "data and modules lie inside of what is packed"


def test_a_source_package_holds_what_is_built_and_no_corpus_for_fuzzers() -> None:
    left_out = setting("tool", "hatch", "build", "targets", "sdist", "exclude")
    assert isinstance(left_out, list)
    folders = [ROOT / path.removeprefix("/") for path in left_out]
    assert all(folder.is_dir() for folder in folders)
    assert ROOT / "runtime/cpp/fuzz/corpus" in folders
    sources = modules(EXPORTER, RUNTIME)
    assert not any(path.is_relative_to(folder) for path in sources for folder in folders)


def test_the_version_is_where_the_build_looks_for_it() -> None:
    from keepstep.runtime import __version__

    place = setting("tool", "hatch", "version", "path")
    assert isinstance(place, str)
    assert f'"{__version__}"' in (ROOT / place).read_text(encoding="utf-8")
    assert "version" in setting("project", "dynamic")  # type: ignore[operator]


def test_every_console_script_leads_to_a_function() -> None:
    scripts = setting("project", "scripts")
    assert isinstance(scripts, dict)
    assert "keepstep" in scripts
    for target in scripts.values():
        module, _, function = target.partition(":")
        assert callable(getattr(import_module(module), function))


def test_the_command_line_needs_what_its_extra_installs() -> None:
    """`pip install keepstep[cli]` is enough for what `run`, `inspect` and `verify` import."""
    extras = setting("project", "optional-dependencies")
    assert isinstance(extras, dict)
    installed = " ".join(extras["cli"]).lower()
    code = "import sys; from keepstep.cli import main, play\n"
    code += "from keepstep.exporter.check import verify; from keepstep.output import tables\n"
    code += "print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    packages = {"PIL": "pillow", "rich": "rich", "typer": "typer", "yaml": "pyyaml"}
    packages["pydantic"] = "pydantic"
    for module, package in packages.items():
        assert module not in loaded or package in installed, f"{package} is missing from `cli`"
    assert "torch" not in loaded
