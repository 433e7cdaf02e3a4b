"""A server's process that cannot outlive ours, however that ends, and a port that stays ours while it is down."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import weakref
from collections import deque
from pathlib import Path

from rdknotify.errors import RdNotifyError

__all__ = ["HOST", "GuardedProcess", "reserve_port"]

HOST = "127.0.0.1"

# The guard shares the server's process group and waits on a pipe that only we hold. When we are gone, however
# that came about, it ends the server. (PR_SET_PDEATHSIG would do so when the *thread* ends that started it.)
_GUARDED = 'exec 3<&0; (read -r gone <&3; kill {farewell}) & exec "$@" </dev/null 3<&-'

_started: weakref.WeakSet[GuardedProcess] = weakref.WeakSet()


def reserve_port() -> socket.socket:
    """A port of ours for as long as the socket lives: bound, never listening, so that a server may listen.

    It stays ours while the server is down: otherwise a client's attempt to reconnect may be given that very
    port as its own and connect to itself, and the server could not come back.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((HOST, 0))
    return holder


class GuardedProcess:
    """A process that is started, signalled and started again; its output goes to ``folder/log``. Not thread-safe.

    ``error`` is raised for a signal to a process that is down. ``farewell`` is what the shell's ``kill`` gets
    when we are gone: by default SIGKILL for the process and its group.
    """

    def __init__(self, name: str, folder: Path, error: type[RdNotifyError], farewell: str = "-KILL 0") -> None:
        self.name = name
        self.folder = folder
        self.log = folder / "log"
        self.paused = False
        self.status: int | None = None
        """How it ended the last time: its exit status, or the negative number of a signal."""
        self._error = error
        self._guarded = _GUARDED.format(farewell=farewell)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """The process is there (it may be paused)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """None from when its end was noticed on."""
        return None if self._process is None else self._process.pid

    def start(self, command: list[str], user: str | None = None) -> None:
        """Start it, in a session of its own so that Ctrl-C reaches only us; as ``user``, which needs root."""
        if self.running:
            return
        self._forget()
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", self._guarded, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        _started.add(self)

    def send(self, number: signal.Signals) -> None:
        """Send a signal. Raises the error that was chosen when the process is down."""
        if self._process is None or self._process.poll() is not None:
            raise self._error(f"{self.name} is not running: start() or restart() it first")
        self._process.send_signal(number)
        if number in (signal.SIGSTOP, signal.SIGCONT):
            self.paused = number == signal.SIGSTOP

    def children(self) -> list[int]:
        """The processes that it has started, without its guard."""
        assert self._process is not None
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, _, rest = stat.read_text().partition(" (")
            except OSError:  # it has just ended
                continue
            name, _, fields = rest.rpartition(") ")
            if fields.split()[1] == str(self._process.pid) and name != "sh":  # which is the guard
                found.append(int(pid))
        return found

    def wait(self, timeout: float) -> bool:
        """Wait for the end of the process; false at the timeout (seconds)."""
        deadline = time.monotonic() + timeout
        while self.running:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        self._forget()
        return True

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Nothing to do when it is down."""
        if self.running:
            self.send(signal.SIGKILL)
        self.wait(10)

    def log_tail(self, lines: int) -> str:
        if not self.log.exists():
            return ""
        with open(self.log, errors="replace") as log:
            return "".join(deque(log, lines))

    def _forget(self) -> None:
        """Let go of a process that has ended; closing the pipe ends its guard."""
        process, self._process = self._process, None
        self.paused = False
        _started.discard(self)
        if process is not None:
            self.status = process.returncode
        if process is not None and process.stdin is not None:
            process.stdin.close()

    def _disown(self) -> None:
        """A forked child neither stops its parent's servers nor hides the parent's end from their guards."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.returncode = 0
        self._process = None


def _disown_all() -> None:
    for process in list(_started):
        process._disown()


os.register_at_fork(after_in_child=_disown_all)
