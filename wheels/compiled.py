"""CPythons that nobody ships, compiled from the source of Debian's packages: free-threaded ones, and for musl."""

from __future__ import annotations

import os
import shlex
import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rdknotify.testing.cache import fetched
from vendor import sources
from vendor.recipe import BuildError
from wheels import debian
from wheels.commands import run

__all__ = ["free_threaded", "musl"]

_ZIG = {"cc": "cc -target x86_64-linux-musl", "ar": "ar", "ranlib": "ranlib"}
_LIBRARIES = {"z": ("ZLIB", ["-DHAVE_UNISTD_H"]), "sqlite3": ("LIBSQLITE3", ["-DSQLITE_OMIT_LOAD_EXTENSION"])}
"""What CPython needs to unpack wheels, and rdknotify's demo to store: how configure calls it, and flags."""


def free_threaded(version: str, suite: str) -> Path:
    """CPython without the GIL, compiled natively; with the modules whose libraries' headers this machine has."""

    def fetch(work: Path) -> Path:
        return _make(_source(version, suite, work), work / "made", ["--disable-gil"], {})

    return fetched(f"cpython-{version}t-{suite}", fetch, f"CPython {version}t", BuildError)


def musl(version: str, suite: str, build_python: Path, sqlite: dict[str, Any]) -> Path:
    """CPython for musl on x86-64, by zig; it has neither ssl nor ctypes. ``build_python`` is one that runs here.

    ``sqlite`` is the part of wheels/pythons.json with its source.
    """

    def fetch(work: Path) -> Path:
        environment = {name.upper(): _tool(work, name, words) for name, words in _ZIG.items()}
        environment |= {
            # -fPIC: zig does not know that musl's environ and __environ are one; a copy of it would never be set.
            "CFLAGS": "-g0 -fPIC -Wno-date-time",
            "LDFLAGS": "-dynamic",
            "PKG_CONFIG_LIBDIR": str(work),  # this machine's libraries are of no use
            "ZIG_GLOBAL_CACHE_DIR": str(work / "zig"),
        }
        # What configure would find out by running a program; and what musl has had for a short time only.
        environment |= {"ac_cv_buggy_getaddrinfo": "no", "ac_cv_file__dev_ptmx": "yes", "ac_cv_file__dev_ptc": "no"}
        environment |= {"ac_cv_func_preadv2": "no", "ac_cv_func_pwritev2": "no"}
        # By this, in musl's own stdarg.h, configure would know musl; zig brings another.
        environment["CPP"] = f"{environment['CC']} -E -D__DEFINED_va_list"
        archive = sources.fetch("sqlite", sqlite, work)
        if sources.checksum(archive) != sqlite["sha256"]:
            raise BuildError(f"{sqlite['crate']} is not the one that wheels/pythons.json pins: its SHA-256 differs")
        sources.unpack(archive, sqlite, work / "sqlite")
        for name, folder in (("z", sources.obtain("zlib")), ("sqlite3", work / "sqlite")):
            prefix, flags = _LIBRARIES[name]
            made = _archive(name, folder, flags, work / name, environment)
            environment |= {f"{prefix}_CFLAGS": f"-I{folder}", f"{prefix}_LIBS": f"-L{made} -l{name}"}
        options = ["--host=x86_64-linux-musl", "--build=x86_64-linux-gnu", f"--with-build-python={build_python}"]
        return _make(_source(version, suite, work), work / "made", options, environment)

    return fetched(f"cpython-{version}-{suite}-musl", fetch, f"CPython {version} for musl", BuildError)


def _tool(work: Path, name: str, words: str) -> str:
    """A program of one word, as configure wants it; without Python, which would take most of its time to start."""
    found = find_spec("ziglang")
    if found is None or found.origin is None:
        raise BuildError("ziglang is missing, which compiles CPython for musl: pip install ziglang")
    script = work / name
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(Path(found.origin).with_name("zig")))} {words} "$@"\n')
    script.chmod(0o755)
    return str(script)


def _source(version: str, suite: str, work: Path) -> Path:
    with tarfile.open(debian.source(f"python{version}", suite, work)) as tarball:
        tarball.extractall(work)
    return next(work.glob("Python-*"))


def _archive(name: str, folder: Path, flags: list[str], work: Path, environment: dict[str, str]) -> Path:
    """A folder with a small library, made without its own configure."""
    made = work / "lib"
    made.mkdir(parents=True)
    code = map(str, sorted(folder.glob("*.c")))
    env = os.environ | environment
    run([environment["CC"], "-O2", "-g0", "-fPIC", *flags, "-c", *code], cwd=work, env=env)
    run(
        [environment["AR"], "rcs", f"lib/lib{name}.a", *(path.name for path in sorted(work.glob("*.o")))],
        cwd=work,
        env=env,
    )
    return made


def _make(home: Path, prefix: Path, options: list[str], environment: dict[str, str]) -> Path:
    """configure, make, make install; the CPython is found where it lies then, wherever that is moved to."""
    environment = os.environ | environment
    run(["./configure", "-q", f"--prefix={prefix}", "--disable-test-modules", *options], cwd=home, env=environment)
    run(["make", "-s", f"-j{os.cpu_count() or 1}"], cwd=home, env=environment)
    run(["make", "-s", "install", "ENSUREPIP=no"], cwd=home, env=environment)
    return prefix
