"""The sdist: all that a build needs without npm, nothing else, and the same bytes wherever it is made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = json.loads((ROOT / "vendor/recipe.json").read_text())
LARGEST = 3_000_000  # bytes
MADE_BY_IT = ("PKG-INFO", "setup.cfg", "src/rdknotify.egg-info", "vendor/source")


def sdist(project: Path, into: Path, umask: int = 0o022) -> Path:
    """As ``make wheels`` makes it, but with the packages of this environment."""
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", f"--outdir={into}", str(project)]
    done = subprocess.run(command, umask=umask, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = into.iterdir()
    return archive


def unpacked(archive: Path, into: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(into)
    (folder,) = into.iterdir()
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of this very tree, with whatever lies around in it."""
    return sdist(ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def content(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(archive, tmp_path_factory.mktemp("content"))


def test_it_carries_the_sources_that_are_compiled_with_their_licences(content: Path) -> None:
    sources = content / "vendor/source"
    needed = {"librdkafka": ["src/rdkafka.c", "src/Makefile", "LICENSES.txt"], "zstd": ["lib/zstd.h", "LICENSE"]}
    for name, files in needed.items():
        folder = sources / f"{name}-{RECIPE[name]['version']}"
        assert [file for file in files if not (folder / file).is_file()] == []
    assert {folder.name.partition("-")[0] for folder in sources.iterdir()} == set(needed)
    declared = [line for line in (content / "PKG-INFO").read_text().splitlines() if line.startswith("License-File: ")]
    for name in ("LICENSE", "vendor/LICENSES.md"):
        assert f"License-File: {name}" in declared


def test_nothing_that_was_built_or_left_around_is_in_it(archive: Path, content: Path) -> None:
    files = [path.relative_to(content) for path in content.rglob("*") if path.is_file()]
    assert len(files) > 400
    junk = {".so", ".a", ".o", ".pyc", ".whl", ".gz", ".tgz", ".jar", ".orig", ".log"}
    assert [path for path in files if path.suffix in junk] == []
    folders = {"build", "dist", "__pycache__", ".venv", ".cache", ".git", ".hypothesis", ".mypy_cache"}
    assert [path for path in files if folders & set(path.parts[:-1])] == []
    assert not (content / "src/_rdknotify.c").exists()
    assert archive.stat().st_size < LARGEST


def test_the_same_files_give_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    """In another place, later, with other rights: of an sdist's content without what making it adds."""
    again = unpacked(archive, tmp_path / "again")
    for name in MADE_BY_IT:
        path = again / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if (ROOT / "build/downloads").exists():
        shutil.copytree(ROOT / "build/downloads", again / "build/downloads")
    for path in again.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    assert sdist(again, tmp_path / "out", umask=0o077).read_bytes() == archive.read_bytes()
