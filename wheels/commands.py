"""Running compilers and the like so that Ctrl-C, or SIGTERM, ends them, with all that they have started."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vendor.recipe import BuildError

__all__ = ["Stopped", "heed_sigterm", "run", "stopped"]

TIMEOUT = 3600.0
"""Seconds for one command; the longest runs the tests of the core by an emulated processor."""
GRACE = 5.0
"""Seconds between asking a command to end and ending it."""

_running: set[subprocess.Popen[str]] = set()
_lock = threading.Lock()
_stopped = threading.Event()


class Stopped(BaseException):
    """All is to end. No error of one command, so that nobody goes on with the next."""


def run(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None, show: bool = False) -> str:
    """What the command prints; with ``show``, its errors and progress are passed on. Raises BuildError."""
    errors = None if show else subprocess.PIPE
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        start_new_session=True,  # a group of its own, which can be ended whole
    ) as process:
        with _lock:
            _running.add(process)
        try:
            if _stopped.is_set():
                raise Stopped
            output, told = process.communicate(timeout=TIMEOUT)
        except BaseException as error:
            _end(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise BuildError(f"{shlex.join(command[:4])} ... did not end within {TIMEOUT:.0f} s") from None
            raise
        finally:
            with _lock:
                _running.discard(process)
    if _stopped.is_set():
        raise Stopped
    if process.returncode:
        reason = "\n".join((told or output).strip().splitlines()[-15:]) or f"exit status {process.returncode}"
        raise BuildError(f"{shlex.join(command[:6])} ... failed:\n{reason}")
    return output


def heed_sigterm() -> None:
    """SIGTERM ends this process as Ctrl-C does, so that nothing it started is left; with exit status 143."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


@contextmanager
def stopped() -> Iterator[None]:
    """End what other threads run; until the end of it their calls of :func:`run` raise Stopped."""
    _stopped.set()
    with _lock:
        running = list(_running)
    for process in running:
        _end(process)
    try:
        yield
    finally:
        _stopped.clear()


def _end(process: subprocess.Popen[str]) -> None:
    """Ask it, and its children, to end; then end whoever is left, for a shell's children may not heed."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGINT)
        process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
