"""The sdist on a bare machine: a Debian with Python, its headers and a C compiler, by debootstrap, and nothing else.

Needs root, for a root directory of its own, and the package debootstrap.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from rdknotify.errors import RdNotifyError
from wheels.extension import ROOT

__all__ = ["RESULT", "command"]

RESULT = ROOT / "build" / "wheels" / "bare.json"
SUITE, PYTHON = "bookworm", "3.11"
FIRST = "ca-certificates,python3-dev,python3-venv"
TIMEOUT = 3600.0
"""Seconds for one step, of which the longest compiles librdkafka and runs the tests of the core."""
# What is installed next, and what the build says before that; zlib's headers come with Python's.
NEXT = {"gcc": "install gcc", "libssl-dev": "install libssl-dev"}
BUILDING = ("setuptools>=77", "Cython>=3.1,<4")
RUNNING = ("msgspec", "orjson", "click", "rich")
TESTING = ("hypothesis", "pytest-timeout")
CLEAN = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheelhouse", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


class BareError(RdNotifyError):
    """The bare machine could not be made, or the sdist is not what it must be there."""


class Machine:
    """A root directory with a Debian in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        _run(["debootstrap", "--variant=minbase", f"--include={FIRST}", SUITE, str(root)])
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")

    def run(self, *command: str, folder: str = "/") -> subprocess.CompletedProcess[str]:
        """A command in it, with a /proc that ends with it."""
        inside = ["env", "-C", folder, *command]
        own = ["unshare", "--mount", "--pid", "--fork", f"--mount-proc={self.root / 'proc'}"]
        done = subprocess.run(
            [*own, "chroot", str(self.root), *inside],
            env=CLEAN | OFFLINE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
        )
        click.echo(done.stdout, err=True)
        return done

    def must(self, *command: str, folder: str = "/") -> str:
        done = self.run(*command, folder=folder)
        if done.returncode:
            raise BareError(f"{' '.join(command)}: exit status {done.returncode}: {done.stdout[-2000:]}")
        return done.stdout


@click.command("bare")
@click.argument("sdist", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def command(sdist: Path) -> None:
    """Install an sdist on a bare Debian: what it says of what is missing, how long it takes, tests of the core."""
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        raise BareError("a bare machine needs root and debootstrap: apt-get install debootstrap")
    with tempfile.TemporaryDirectory(prefix="bare-") as folder:
        found = _try(sdist, Path(folder) / "root")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    click.echo(f"installed in {found['seconds']} s; {found['tests']}")


def _try(sdist: Path, root: Path) -> dict[str, Any]:
    machine = Machine(root)
    only = ["--only-binary=:all:", f"--python-version={PYTHON}", f"--dest={root / 'wheelhouse'}"]
    _run([sys.executable, "-m", "pip", "download", "--quiet", *only, *BUILDING, *RUNNING, *TESTING])
    shutil.copy(sdist, root)
    machine.must("python3", "-m", "venv", "/venv")
    install = ("/venv/bin/pip", "install", "--quiet", f"rdknotify[cli] @ file:///{sdist.name}")
    for package, said in NEXT.items():
        if said not in machine.run(*install).stdout:
            raise BareError(f"without {package} the build does not say: {said}")
        machine.must("apt-get", "install", "--quiet", "--yes", "--no-install-recommends", package)
    began = time.monotonic()
    machine.must(*install)
    seconds = round(time.monotonic() - began)
    told = json.loads(machine.must("/venv/bin/rdknotify", "version", "--json"))
    machine.must("/venv/bin/rdknotify", "demo", "--count", "2000")
    machine.must("/venv/bin/pip", "install", "--quiet", *TESTING)
    machine.must("tar", "xf", f"/{sdist.name}")
    source = f"/{sdist.name.removesuffix('.tar.gz')}"
    machine.must("rm", "-r", f"{source}/src")  # what is tested is what is installed
    tests = machine.must("/venv/bin/python", "-m", "pytest", "-q", "tests/core", folder=source)
    passed = re.findall(r"^\d+ passed.*(?= in )", tests, re.MULTILINE)[-1]
    system = f"Debian {SUITE} (Python {told['python'].split()[0]}, {told['libc']})"
    return {"seconds": seconds, "tests": passed, "machine": system, "cpus": os.cpu_count(), "version": told}


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=sys.stderr, stdin=subprocess.DEVNULL, timeout=TIMEOUT, check=False)
    if done.returncode:
        raise BareError(f"{command[0]} failed with exit status {done.returncode}")
