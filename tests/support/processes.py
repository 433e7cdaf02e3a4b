"""Which processes are there, and how to start a Python whose every warning shows."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Python 3.12 warns of every fork beside threads; a test that forks knows.
STRICT_PYTHON = [sys.executable, "-X", "dev", "-W", "ignore:This process:DeprecationWarning"]
if sysconfig.get_config_var("Py_GIL_DISABLED"):  # asked for, it needs no warning
    STRICT_PYTHON += ["-X", "gil=1"]


def processes_of(owner: int) -> list[int]:
    """The live servers, and their guards, that the kit started in the process ``owner``: they bear its mark."""
    mark = {f"-Drdknotify.owner={owner}", f"--rdknotify.owner={owner}"}  # a JVM's, a PostgreSQL's
    return [pid for pid, arguments in _processes() if mark & set(arguments)]


def _processes() -> Iterator[tuple[int, list[str]]]:
    """All live processes with their arguments; of /proc where it is, for not every machine has ps."""
    if Path("/proc/self/cmdline").exists():
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                yield int(folder.name), (folder / "cmdline").read_text(errors="replace").split("\0")  # a zombie's: none
        return
    # -ww: however narrow the terminal is said to be
    command = ["ps", "-ww", "-eo", "pid=,stat=,args="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    yield from ((int(pid), arguments) for pid, state, *arguments in rows if state[0] != "Z")
