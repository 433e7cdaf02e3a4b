"""CPythons: headers to compile against and interpreters to run, pinned, fetched once and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from rdknotify.errors import RdNotifyError
from rdknotify.testing.cache import fetched
from rdknotify.testing.jars import LocalKafkaError, run_maven

__all__ = ["VERSIONS", "PythonError", "headers"]

PINS: dict[str, Any] = json.loads(Path(__file__).with_name("pythons.json").read_text())
VERSIONS: tuple[str, ...] = (*PINS["maven"], *(f"{version}t" for version in PINS["free-threaded"]))
"""Those that wheels are made for, as "3.13"; "3.13t" is the free-threaded one."""

_CLASSIFIERS = {"x86_64": "linux-x86_64", "aarch64": "linux-arm64"}
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
_GIL = "/* #undef Py_GIL_DISABLED */"


class PythonError(RdNotifyError):
    """A CPython cannot be had; the text says what is missing."""


def headers(version: str) -> Path:
    """The folder with Python.h and pyconfig.h of "3.10" ... "3.14", or free-threaded, "3.13t".

    They serve every Linux that is little-endian and LP64: what pyconfig.h says otherwise on aarch64 or with musl is
    read by CPython's own sources only. Raises :class:`PythonError`.
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
            raise PythonError(f"CPython {plain} cannot be built without the GIL: its pyconfig.h does not know of it")
        config.write_text(text.replace(_GIL, "#define Py_GIL_DISABLED 1"))
        return made

    return fetched(f"cpython-{_release(plain)}t-headers", without_the_gil, "CPython's headers", PythonError)


def python_of_maven(version: str, machine: str) -> Path:
    """A whole CPython for glibc: bin/, lib/, include/. Raises :class:`PythonError`."""
    release = _release(version)
    checksum = PINS["maven"][version]["sha256"].get(machine)
    if checksum is None:
        raise PythonError(f"no CPython {version} for {machine}: wheels/pythons.json pins none")
    classifier = _CLASSIFIERS[machine]

    def fetch(work: Path) -> Path:
        coordinates = f"org.bytedeco:cpython:{release}:jar:{classifier}"
        try:
            run_maven([_COPY, f"-Dartifact={coordinates}", "-DoutputDirectory=."], work, coordinates)
        except LocalKafkaError as error:
            raise PythonError(str(error)) from None
        jar = work / f"cpython-{release}-{classifier}.jar"
        if hashlib.sha256(jar.read_bytes()).hexdigest() != checksum:
            raise PythonError(f"{coordinates} is not the one that wheels/pythons.json pins: its SHA-256 differs")
        with zipfile.ZipFile(jar) as archive:
            archive.extractall(work)
        home = work / "org" / "bytedeco" / "cpython" / classifier
        (home / "bin" / f"python{version}").chmod(0o755)  # a jar has no executable files
        for ffi in home.glob("libffi.so.*"):
            (home / "lib" / f"python{version}" / "lib-dynload" / ffi.name).symlink_to(f"../../../{ffi.name}")
        return home

    return fetched(f"cpython-{release}-{classifier}", fetch, "CPython", PythonError)


def _release(version: str) -> str:
    if version not in PINS["maven"]:
        raise PythonError(f"no CPython {version}: wheels/pythons.json pins {', '.join(VERSIONS)}")
    return str(PINS["maven"][version]["release"])
