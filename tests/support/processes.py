"""Which processes are there, and how to start a Python whose every warning shows."""

from __future__ import annotations

import subprocess
import sys

# Python 3.12 warns of every fork beside threads; a test that forks knows.
STRICT_PYTHON = [sys.executable, "-X", "dev", "-W", "ignore:This process:DeprecationWarning"]


def processes_of(owner: int) -> list[int]:
    """The live servers, and their guards, that the kit started in the process ``owner``: they bear its mark."""
    # -ww: however narrow the terminal is said to be
    command = ["ps", "-ww", "-eo", "pid=,stat=,args="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    mark = {f"-Drdknotify.owner={owner}", f"--rdknotify.owner={owner}"}  # a JVM's, a PostgreSQL's
    rows = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, state, *args in rows if mark & set(args) and state[0] != "Z"]
