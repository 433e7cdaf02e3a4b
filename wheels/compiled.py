"""CPythons that nobody ships, compiled from the source of Debian's packages: free-threaded ones, and for musl."""

from __future__ import annotations

import os
import shlex
import sys
import tarfile
from pathlib import Path

from rdknotify.testing.cache import fetched
from vendor import sources
from vendor.recipe import BuildError
from wheels import debian
from wheels.commands import run

__all__ = ["free_threaded", "musl"]

_FOR_MUSL = {
    "zlib": ("*.c", ["-D_GNU_SOURCE", "-DHAVE_UNISTD_H"]),
    "sqlite": ("sqlite3.c", ["-DSQLITE_OMIT_LOAD_EXTENSION"]),
}
"""What CPython needs to unpack wheels, and rdknotify's demo to store: sources and flags."""


def free_threaded(version: str, suite: str) -> Path:
    """CPython without the GIL, compiled natively; with the modules whose libraries' headers this machine has."""

    def fetch(work: Path) -> Path:
        return _make(_source(version, suite, work), work / "made", ["--disable-gil"], {})

    return fetched(f"cpython-{version}t-{suite}", fetch, f"CPython {version}t", BuildError)


def musl(version: str, suite: str, build_python: Path, sqlite: dict[str, str]) -> Path:
    """CPython for musl on x86-64, by zig; it has neither ssl nor ctypes. ``build_python`` is one that runs here."""
    cc = f"{shlex.quote(sys.executable)} -m ziglang cc -target x86_64-linux-musl"

    def fetch(work: Path) -> Path:
        home = _source(version, suite, work)
        environment = {"CC": cc, "AR": f"{shlex.quote(sys.executable)} -m ziglang ar", "CFLAGS": "-g0"}
        environment |= {"LDFLAGS": "-dynamic", "ac_cv_file__dev_ptmx": "yes", "ac_cv_file__dev_ptc": "no"}
        archive = sources.fetch("sqlite", sqlite, work)
        if sources.checksum(archive) != sqlite["sha256"]:
            raise BuildError(f"{sqlite['crate']} is not the one that wheels/pythons.json pins: its SHA-256 differs")
        sources.unpack(archive, sqlite, work / "sqlite")
        for name, folder, prefix in (
            ("zlib", sources.obtain("zlib"), "ZLIB"),
            ("sqlite", work / "sqlite", "LIBSQLITE3"),
        ):
            pattern, flags = _FOR_MUSL[name]
            archived = _archive(cc, folder, pattern, flags, work / name)
            environment |= {f"{prefix}_CFLAGS": f"-I{folder}", f"{prefix}_LIBS": str(archived)}
        options = ["--host=x86_64-linux-musl", "--build=x86_64-linux-gnu", f"--with-build-python={build_python}"]
        return _make(home, work / "made", options, environment)

    return fetched(f"cpython-{version}-{suite}-musl", fetch, f"CPython {version} for musl", BuildError)


def _source(version: str, suite: str, work: Path) -> Path:
    with tarfile.open(debian.source(f"python{version}", suite, work)) as tarball:
        tarball.extractall(work)
    return next(work.glob("Python-*"))


def _archive(cc: str, folder: Path, pattern: str, flags: list[str], work: Path) -> Path:
    """A small library without configure."""
    work.mkdir(exist_ok=True)
    files = [str(path) for path in sorted(folder.glob(pattern))]
    run([*shlex.split(cc), "-O2", "-g0", "-fPIC", *flags, "-c", *files], cwd=work)
    archive = work / "lib.a"
    run([sys.executable, "-m", "ziglang", "ar", "rcs", str(archive), *map(str, work.glob("*.o"))], cwd=work)
    return archive


def _make(home: Path, prefix: Path, options: list[str], environment: dict[str, str]) -> Path:
    """configure, make, make install; the CPython is found where it lies then, wherever that is moved to."""
    environment = os.environ | environment
    run(["./configure", "-q", f"--prefix={prefix}", "--disable-test-modules", *options], cwd=home, env=environment)
    run(["make", "-s", f"-j{os.cpu_count() or 1}"], cwd=home, env=environment)
    run(["make", "-s", "install", "ENSUREPIP=no"], cwd=home, env=environment)
    return prefix
