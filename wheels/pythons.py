"""CPythons: headers to compile against and interpreters to run, pinned, fetched once and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from rdknotify.testing.cache import fetched
from rdknotify.testing.jars import LocalKafkaError, run_maven
from vendor.recipe import BuildError
from wheels import compiled, roots
from wheels.commands import run

__all__ = ["LACKING", "OLD_GLIBC", "VERSIONS", "headers", "interpreter", "why_not"]

PINS: dict[str, Any] = json.loads(Path(__file__).with_name("pythons.json").read_text())
VERSIONS: tuple[str, ...] = (*PINS["maven"], *(f"{version}t" for version in PINS["free-threaded"]))
"""Those that wheels are made for, as "3.13"; "3.13t" is the free-threaded one."""

OLD_GLIBC = "oldest glibc"
"""What :func:`interpreter` takes in place of a target for x86-64 with the glibc of :mod:`wheels.roots`."""

LACKING = {"3.13t": "msgspec has no release for it, so pip cannot install rdknotify; the core alone is tried"}
"""Pythons for which there is not all that rdknotify requires, and what of that."""

_CLASSIFIERS = {"x86_64": "linux-x86_64", "aarch64": "linux-arm64"}
_LIBRARIES = ("pthread.so.0", "dl.so.2", "m.so.6", "rt.so.1", "util.so.1", "gcc_s.so.1", "sqlite3.so.0", "lzma.so.5")
_OLD = ("3.10", "3.11", "3.12")  # compiled for glibc 2.17, 2.17, 2.30
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
_GIL = "/* #undef Py_GIL_DISABLED */"


def headers(version: str) -> Path:
    """The folder with Python.h and pyconfig.h of "3.10" ... "3.14", or free-threaded, "3.13t".

    They serve every Linux that is little-endian and LP64: what pyconfig.h says otherwise on aarch64 or with musl is
    read by CPython's own sources only. Raises :class:`BuildError`.
    """
    plain = version.removesuffix("t")
    folder = python_of_maven(plain, "x86_64") / "include" / f"python{plain}"
    if plain == version:
        return folder

    def without_the_gil(work: Path) -> Path:
        """What ``configure --disable-gil`` writes, but for this one line, is what it writes without."""
        made = Path(shutil.copytree(folder, work / "include"))
        config = made / "pyconfig.h"
        text = config.read_text()
        if _GIL not in text:
            raise BuildError(f"CPython {plain} cannot be built without the GIL: its pyconfig.h does not know of it")
        config.write_text(text.replace(_GIL, "#define Py_GIL_DISABLED 1"))
        return made

    return fetched(f"cpython-{_release(plain)}t-headers", without_the_gil, "CPython's headers", BuildError)


def python_of_maven(version: str, machine: str) -> Path:
    """A whole CPython for glibc: bin/, lib/, include/. Raises :class:`BuildError`."""
    release = _release(version)
    checksum = PINS["maven"][version]["sha256"].get(machine)
    if checksum is None:
        raise BuildError(f"no CPython {version} for {machine}: wheels/pythons.json pins none")
    classifier = _CLASSIFIERS[machine]

    def fetch(work: Path) -> Path:
        coordinates = f"org.bytedeco:cpython:{release}:jar:{classifier}"
        try:
            run_maven([_COPY, f"-Dartifact={coordinates}", "-DoutputDirectory=."], work, coordinates)
        except LocalKafkaError as error:
            raise BuildError(str(error)) from None
        jar = work / f"cpython-{release}-{classifier}.jar"
        if hashlib.sha256(jar.read_bytes()).hexdigest() != checksum:
            raise BuildError(f"{coordinates} is not the one that wheels/pythons.json pins: its SHA-256 differs")
        with zipfile.ZipFile(jar) as archive:
            archive.extractall(work)
        home = work / "org" / "bytedeco" / "cpython" / classifier
        (home / "bin" / f"python{version}").chmod(0o755)  # a jar has no executable files
        for ffi in home.glob("libffi.so.*"):
            (home / "lib" / f"python{version}" / "lib-dynload" / ffi.name).symlink_to(f"../../../{ffi.name}")
        return home

    return fetched(f"cpython-{release}-{classifier}", fetch, "CPython", BuildError)


def _release(version: str) -> str:
    if version not in PINS["maven"]:
        raise BuildError(f"no CPython {version}: wheels/pythons.json pins {', '.join(VERSIONS)}")
    return str(PINS["maven"][version]["release"])


def why_not(version: str, target: str) -> str | None:
    """Why there is no interpreter to run CPython ``version`` for a target, or None where there is one."""
    plain = version.removesuffix("t")
    musl, aarch64, free = "musl" in target, target.endswith("aarch64"), version != plain
    if (musl or free) and aarch64:
        return f"no CPython {'for musl' if musl else 'without the GIL'} for aarch64 is in reach"
    if (musl or free) and plain not in PINS["source"]:
        return f"no source of CPython {plain} is in reach to compile one {'for musl' if musl else 'without the GIL'}"
    if musl and free:
        return "CPython without the GIL is not compiled for musl"
    if target == OLD_GLIBC and version not in _OLD:
        return "it was compiled for a newer glibc"
    return None


def interpreter(version: str, target: str) -> list[str] | None:
    """A command that runs CPython ``version`` for a target of wheels/targets.py, or for OLD_GLIBC, on this machine.

    It can make virtual environments. None where :func:`why_not` says why; raises BuildError where it cannot be had
    now. What must be compiled takes minutes for the first time.
    """
    if why_not(version, target):
        return None
    plain = version.removesuffix("t")
    if target == OLD_GLIBC:
        root = roots.old_glibc()
        home = python_of_maven(plain, "x86_64")
        libraries = [root / "lib" / "x86_64-linux-gnu", root / "usr" / "lib" / "x86_64-linux-gnu"]
        loader = libraries[0] / "ld-linux-x86-64.so.2"
        return [str(_with_loader(home, plain, loader, libraries))]
    if "musl" in target:
        builder = _binary(python_of_maven(plain, "x86_64"), plain)
        loader = roots.musl_loader()
        home = compiled.musl(plain, PINS["source"][plain], builder, PINS["sqlite"])
        return [str(_with_loader(home, plain, loader, []))]
    if target.endswith("aarch64"):
        return [str(_emulated(plain))]
    if version != plain:
        return [str(_binary(compiled.free_threaded(plain, PINS["source"][plain]), version))]
    pinned = _binary(python_of_maven(plain, "x86_64"), plain)
    return [str(next(filter(_complete, (pinned, *_here(plain))), pinned))]


def _binary(home: Path, version: str) -> Path:
    return home / "bin" / f"python{version}"


def _here(version: str) -> Iterator[Path]:
    """This machine's own, on the PATH or pyenv's."""
    if found := shutil.which(f"python{version}"):
        yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    yield from (_binary(home, version) for home in sorted(pyenv.glob(f"versions/{version}.*")))


@cache
def _complete(python: Path) -> bool:
    """Whether all of the standard library is there that rdknotify's demo and virtual environments need."""
    command = [str(python), "-c", "import ensurepip, sqlite3, ssl, venv"]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def _with_loader(home: Path, version: str, loader: Path, libraries: list[Path]) -> Path:
    """A CPython like the one in ``home`` that another C library's loader starts, with that one's ``libraries``."""

    def fetch(work: Path) -> Path:
        made = Path(shutil.copytree(home, work / "made", symlinks=True))
        patch = ["patchelf", "--set-interpreter", str(loader)]
        if libraries:
            # Named here, they are loaded first: none of this machine's follows, whatever a module asks for.
            patch += ["--force-rpath", "--set-rpath", ":".join(["$ORIGIN/..", "$ORIGIN/../lib", *map(str, libraries)])]
            patch += [word for name in _LIBRARIES for word in ("--add-needed", f"lib{name}")]
        run([*patch, str(_binary(made, version))])
        return made

    return _binary(fetched(f"{home.name}-by-{loader.stem}", fetch, "CPython", BuildError), version)


def _emulated(version: str) -> Path:
    """A script that runs a CPython of aarch64, as whose executable the script counts."""
    suite = PINS["debian"].get(version)
    root = roots.aarch64(version, suite) if suite else roots.aarch64("3.13", PINS["debian"]["3.13"])
    home = root / "usr" if suite else python_of_maven(version, "aarch64")
    command = f'{roots.qemu()} -L {root} -0 "$0" {_binary(home, version)} "$@"'

    def fetch(work: Path) -> Path:
        script = _binary(work / "made", version)
        script.parent.mkdir(parents=True)
        script.write_text(f"#!/bin/sh\nexec {command}\n")
        script.chmod(0o755)
        (work / "made" / "lib").symlink_to(home / "lib")
        return work / "made"

    return _binary(fetched(f"cpython-{version}-by-qemu", fetch, "CPython", BuildError), version)
