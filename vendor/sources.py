"""The C sources of the recipe: obtained, verified by their checksums, unpacked."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from vendor.recipe import BUILD, HERE, RECIPE, BuildError, move


def bundle(parent: Path) -> None:
    """Put the sources of all parts under ``parent``, as in an sdist. Raises BuildError, OSError."""
    for name in ("librdkafka", "zstd"):
        _fetch(name, parent)


def _fetch(name: str, parent: Path) -> Path:
    """The unpacked source of one part under ``parent``, from its npm package unless it is there."""
    part = RECIPE[name]
    target = parent / f"{name}-{part['version']}"
    if target.exists():
        return target
    archive = _download(name, part)
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as scratch:
        _unpack(archive, part["folder"], tuple(part["keep"]), Path(scratch) / name)
        move(Path(scratch) / name, target)
    return target


def obtain(name: str) -> Path:
    """The folder with the source of one part, fetched unless it is there. Raises BuildError, OSError."""
    bundled = HERE / "source" / f"{name}-{RECIPE[name]['version']}"
    return bundled if bundled.exists() else _fetch(name, BUILD / "source")


def _download(name: str, part: dict[str, Any]) -> Path:
    """The package's archive, verified; kept for the next time."""
    archive = BUILD / "downloads" / f"{part['sha256'][:16]}.tgz"
    if archive.exists():
        _verify(archive, part)
        return archive
    if not shutil.which("npm"):
        otherwise = {
            "librdkafka": f"RDKNOTIFY_LIBRDKAFKA_SRC to the source of librdkafka {RECIPE['librdkafka']['version']}",
            "zstd": "RDKNOTIFY_WITHOUT=zstd",
        }
        raise BuildError(
            f"npm is needed to obtain the source of {name}: install npm (Debian, Ubuntu: npm; Fedora: nodejs-npm), "
            f"or set {otherwise[name]}"
        )
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        packed = _npm_pack(part["package"], Path(scratch))
        _verify(packed, part)
        return packed.replace(archive)


def _npm_pack(package: str, folder: Path) -> Path:
    """The package's archive; npm pack runs none of its scripts."""
    print(f"fetching {package}", file=sys.stderr)
    patience = ["--fetch-retries=1", "--fetch-timeout=60000"]  # ms; npm's own 5 minutes look like a hang
    command = ["npm", "pack", "--loglevel=error", *patience, f"--pack-destination={folder}", package]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    packed = list(folder.glob("*.tgz"))
    if done.returncode or not packed:
        reason = re.search(r"^npm (?:error|ERR!) (?!code|syscall|errno)(.+)", done.stderr, re.MULTILINE)
        raise BuildError(
            f"npm could not fetch {package}: {reason[1] if reason else 'no reason given'}; is the registry reachable?"
        )
    return packed[0]


def _verify(archive: Path, part: dict[str, Any]) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != part["sha256"]:
        archive.unlink()
        raise BuildError(f"{part['package']}: sha256 is {found}, recipe.json says {part['sha256']}; nothing was built")


def _unpack(archive: Path, folder: str, keep: tuple[str, ...], target: Path) -> None:
    """Regular files below ``folder`` that the recipe keeps; nothing may leave the target."""
    with tarfile.open(archive) as tar:
        for member in tar:
            relative = member.name[len(folder) :]
            if not member.isreg() or not member.name.startswith(folder) or not relative.startswith(keep):
                continue
            if ".." in Path(relative).parts:
                raise BuildError(f"{archive.name}: {member.name} points outside of the archive")
            path = target / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None
            path.write_bytes(content.read())
