"""What lets another machine's programs run here: qemu and a root for aarch64, musl's loader, an old glibc."""

from __future__ import annotations

import shutil
from pathlib import Path

from rdknotify.testing.cache import fetched
from vendor.recipe import BuildError
from wheels import debian

__all__ = ["OLD", "aarch64", "musl_loader", "old_glibc", "qemu"]

OLD = "bullseye"
"""The oldest release of Debian that its mirrors carry, of 2021: glibc 2.31, musl 1.2.2."""


def qemu() -> Path:
    """qemu-aarch64, static: it needs nothing of this machine."""

    def fetch(work: Path) -> Path:
        debian.unpack(["qemu-user-static"], "bookworm", "amd64", work / "root")
        return work / "root" / "usr" / "bin" / "qemu-aarch64-static"

    return fetched("qemu-aarch64", fetch, "qemu", BuildError)


def aarch64(python: str, suite: str) -> Path:
    """A root of arm64: glibc, what wheels need beside it, and Debian's own CPython."""

    def fetch(work: Path) -> Path:
        packages = [f"python{python}-venv", "libcrypt1", "libgcc-s1", "libstdc++6"]
        debian.unpack(packages, suite, "arm64", work / "root")
        for name in ("bin", "lib"):  # links that a package leaves to the installer
            if not (work / "root" / name).exists():
                (work / "root" / name).symlink_to(f"usr/{name}")
        return work / "root"

    return fetched(f"root-aarch64-{suite}", fetch, "a root for aarch64", BuildError)


def old_glibc() -> Path:
    """A root with an old glibc for x86-64."""

    def fetch(work: Path) -> Path:
        packages = ["libc6", "libcrypt1", "libgcc-s1", "libstdc++6", "libsqlite3-0", "liblzma5"]
        debian.unpack(packages, OLD, "amd64", work / "root")
        return work / "root"

    return fetched(f"root-x86_64-{OLD}", fetch, "a root with an old glibc", BuildError)


def musl_loader() -> Path:
    """The loader of musl for x86-64, which is its C library too."""

    def fetch(work: Path) -> Path:
        debian.unpack(["musl"], OLD, "amd64", work / "root")
        # The package leaves it to a link; patchelf and pip want to see "ld-musl-x86_64.so.1".
        made = work / "made"
        made.mkdir()
        shutil.copy2(next((work / "root").rglob("libc.so")), made / "ld-musl-x86_64.so.1")
        return made

    return fetched(f"root-x86_64-{OLD}-musl", fetch, "musl", BuildError) / "ld-musl-x86_64.so.1"
