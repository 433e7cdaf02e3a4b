"""One Kafka node: its files, its ports and its process, which cannot outlive ours."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import weakref
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from rdknotify.testing.jars import LocalKafkaError

__all__ = ["HOST", "Node", "reserve_port", "write_properties"]

HOST = "127.0.0.1"

# The guard shares the JVM's process group and waits on a pipe that only we hold. When we are gone, however
# that came about, it kills the group. (PR_SET_PDEATHSIG would do so when the *thread* ends that started it.)
_GUARDED = 'exec 3<&0; (read -r gone <&3; kill -KILL 0) & exec "$@" </dev/null 3<&-'

_started: weakref.WeakSet[Node] = weakref.WeakSet()


def reserve_port() -> socket.socket:
    """A port of ours for as long as the socket lives: bound, never listening, so that a broker may listen.

    It stays ours while the broker is down: otherwise a client's attempt to reconnect may be given that very
    port as its own and connect to itself, and the broker could not come back.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((HOST, 0))
    return holder


def write_properties(path: Path, settings: Mapping[str, object]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


class Node:
    """A broker and controller in one JVM. Not thread-safe."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.folder = folder
        self.folder.mkdir()
        self._ports = (reserve_port(), reserve_port())
        self.port, self.controller_port = (int(holder.getsockname()[1]) for holder in self._ports)
        self.log = folder / "log"
        self.properties = folder / "server.properties"
        self.paused = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """The process is there (it may be paused)."""
        return self._process is not None and self._process.poll() is None

    def start(self, command: list[str]) -> None:
        """Start the JVM, in a session of its own so that Ctrl-C reaches only us."""
        if self.running:
            return
        self._forget()
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARDED, "kafka", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )
        _started.add(self)

    def send(self, number: signal.Signals) -> None:
        """Send a signal. Raises :class:`LocalKafkaError` when the node is down."""
        if self._process is None or self._process.poll() is not None:
            raise LocalKafkaError(f"node {self.number} is not running: start() or restart() it first")
        self._process.send_signal(number)
        if number in (signal.SIGSTOP, signal.SIGCONT):
            self.paused = number == signal.SIGSTOP

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

    def close(self) -> None:
        self.kill()
        for holder in self._ports:
            holder.close()

    def _forget(self) -> None:
        """Let go of a process that has ended; closing the pipe ends its guard."""
        process, self._process = self._process, None
        self.paused = False
        _started.discard(self)
        if process is not None and process.stdin is not None:
            process.stdin.close()

    def _disown(self) -> None:
        """A forked child neither stops its parent's nodes nor hides the parent's end from their guards."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.returncode = 0
        self._process = None


def _disown_all() -> None:
    for node in list(_started):
        node._disown()


os.register_at_fork(after_in_child=_disown_all)
