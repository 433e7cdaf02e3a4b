"""Debian's packages of any suite and architecture, fetched and verified by apt and unpacked into folders of their own.

The machine's own package sources and its dpkg are left alone; its configuration says where Debian is mirrored.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from pathlib import Path

from vendor.recipe import BuildError
from wheels.commands import run

__all__ = ["source", "unpack"]

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def unpack(packages: list[str], suite: str, architecture: str, root: Path) -> None:
    """Unpack packages and all that they depend on into the folder ``root``; nothing of them is run.

    Raises :class:`BuildError`.
    """
    apt = _Apt(root.with_name(f"{root.name}-apt"), suite, architecture)
    apt.run("apt-get", "install", "--yes", "--download-only", "--no-install-recommends", *packages)
    for package in sorted((apt.folder / "cache" / "archives").glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(root)])
    shutil.rmtree(apt.folder)


def source(package: str, suite: str, work: Path) -> Path:
    """The upstream tarball of a source package, in the folder ``work``. Raises :class:`BuildError`."""
    apt = _Apt(work / "apt", suite, "source")
    apt.run("apt-get", "source", "--download-only", package)
    return next(path for path in apt.folder.glob("*.orig.tar.*") if path.suffix != ".asc")


class _Apt:
    """An apt that knows one suite and keeps all of its files in one folder."""

    def __init__(self, folder: Path, suite: str, architecture: str) -> None:
        self.folder = folder
        for part in ("lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True)
        kind, option = ("deb-src", "") if architecture == "source" else ("deb", f"arch={architecture} ")
        signed = f"{option}signed-by={KEYRING}"
        (folder / "sources").write_text(f"{kind} [{signed}] {_mirror()} {suite} main\n")
        (folder / "apt.conf").write_text("")
        options = {
            "Dir::Etc::SourceList": folder / "sources",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State": folder,
            "Dir::State::Status": "/dev/null",
            "Dir::Cache": folder / "cache",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        }
        if architecture != "source":
            options |= {"APT::Architecture": architecture, "APT::Architectures": architecture}
        self.options = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        self.run("apt-get", "update", "--error-on=any")

    def run(self, program: str, *arguments: str) -> str:
        return _run([program, "-q", *self.options, *arguments], self.folder)


def _mirror() -> str:
    """Where this machine gets its own Debian from."""
    if shutil.which("apt-get") is None or not KEYRING.exists():
        raise BuildError("apt or Debian's keyring is missing, with which wheels are tried: run on Debian")
    release = platform.freedesktop_os_release()
    told = _run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"])
    codename = release.get("VERSION_CODENAME", "")
    found = re.search(rf"^(\S+) {re.escape(codename)} main$", told, re.MULTILINE)
    if release["ID"] != "debian" or not found:
        raise BuildError(f"packages come from a mirror of Debian; this machine's apt names none for {codename!r}")
    return found[1]


def _run(command: list[str], folder: Path | None = None) -> str:
    return run(command, cwd=folder, env=os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"})
