"""Ctrl-C in the middle of a call, in a process of its own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import time

from support.waiting import PATIENCE

FRAME = """
print("ready", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
finally:
    {ending}
"""


def interrupted(setup: str, call: str, ending: str) -> float:
    """How long the call went on after Ctrl-C, in seconds; the process must end well after it."""
    frame = FRAME.replace("{call}", call.replace("\n", "\n    ")).replace("{ending}", ending)
    command = [sys.executable, "-c", textwrap.dedent(setup) + frame]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        assert _line(process) == b"ready\n"
        time.sleep(0.4 * PATIENCE)
        assert process.poll() is None, process.communicate()
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert _line(process) == b"interrupted\n"
        took = time.monotonic() - begun
        assert process.wait(10 * PATIENCE) == 0, process.stderr.read()
        return took
    finally:
        process.kill()
        process.communicate()


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None and process.stderr is not None
    read = b""
    while not read.endswith(b"\n"):
        assert select.select([process.stdout], [], [], 15 * PATIENCE)[0], "no output in time"
        part = os.read(process.stdout.fileno(), 100)
        assert part, process.stderr.read()
        read += part
    return read
