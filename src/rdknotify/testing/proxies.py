"""TCP proxies that can be told to misbehave: toxiproxy, fetched once with Go, or named by ``RDKNOTIFY_TOXIPROXY``."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from rdknotify.errors import ConfigError, RdNotifyError
from rdknotify.testing.block import Startable
from rdknotify.testing.cache import fetched
from rdknotify.testing.process import HOST, GuardedProcess, reserve_port

__all__ = ["TOXIPROXY_VERSION", "Proxies", "ToxiproxyError", "find_toxiproxy"]

TOXIPROXY_VERSION = "2.12.0"
FETCH_TIMEOUT = 300.0
"""Seconds that Go may take to fetch and build it; usually 20."""
START_TIMEOUT = 10.0
ANSWER_TIMEOUT = 10.0
"""Seconds for one request to toxiproxy, which answers in milliseconds."""

Direction = Literal["upstream", "downstream"]
"""What clients send goes upstream, what the server answers comes downstream."""


class ToxiproxyError(RdNotifyError):
    """No proxy can be had, or it did not do what was asked; the text says what to do or to look at."""


def find_toxiproxy() -> Path:
    """The server's program: ``RDKNOTIFY_TOXIPROXY``, the cache's, or fetched into it now. Raises ToxiproxyError."""
    named = os.environ.get("RDKNOTIFY_TOXIPROXY")
    if named:
        if not os.access(named, os.X_OK):
            raise ToxiproxyError(f"RDKNOTIFY_TOXIPROXY={named} is no program: name toxiproxy's server")
        return Path(named)
    return fetched(f"toxiproxy-{TOXIPROXY_VERSION}", _build, "toxiproxy", ToxiproxyError)


def _build(work: Path) -> Path:
    """Go checks what it fetches against its public sums."""
    go = shutil.which("go")
    if go is None:
        raise ToxiproxyError(
            f"Go is missing, which fetches toxiproxy {TOXIPROXY_VERSION}, the tests' TCP proxy: install it "
            "(Debian: apt install golang-go), or set RDKNOTIFY_TOXIPROXY to a toxiproxy-server that is installed"
        )
    command = [go, "install", f"github.com/Shopify/toxiproxy/v2/cmd/server@v{TOXIPROXY_VERSION}"]
    settings = {"GOBIN": str(work), "CGO_ENABLED": "0", "GOFLAGS": ""}
    try:
        done = subprocess.run(
            command,
            cwd=work,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FETCH_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise ToxiproxyError(f"Go fetched no toxiproxy {TOXIPROXY_VERSION} within {FETCH_TIMEOUT:.0f} s") from None
    if done.returncode != 0:
        reason = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise ToxiproxyError(f"Go could not fetch toxiproxy {TOXIPROXY_VERSION}: {reason}")
    return work / "server"


class Proxies(Startable):
    """A proxy for each server that is added, in one process that dies with us. Thread-safe but for start and close.

    ::

        with Proxies(folder) as proxies:
            port = proxies.add("database", 5432)
            proxies.disable("database")

    A proxy's port stays the same, and stays ours, while it is disabled and before :meth:`start`. ``folder``
    is where the process has its log.
    """

    def __init__(self, folder: Path) -> None:
        self._process = GuardedProcess("toxiproxy", folder, ToxiproxyError)
        self._api: socket.socket | None = None
        self._held: dict[str, socket.socket] = {}
        self._upstream: dict[str, int] = {}
        self._disabled: set[str] = set()
        self._switching = threading.Lock()

    @property
    def names(self) -> list[str]:
        return list(self._held)

    @property
    def running(self) -> bool:
        return self._process.running

    def add(self, name: str, port: int) -> int:
        """Put a proxy before a port of this machine; returns the proxy's own port."""
        if name in self._held:
            raise ConfigError(f"name={name!r}: there is such a proxy already")
        self._held[name] = reserve_port()
        self._upstream[name] = port
        if self.running:
            self._create(name)
        return self.port(name)

    def port(self, name: str) -> int:
        """Where clients connect to."""
        if name not in self._held:
            raise ConfigError(f"name={name!r}: the proxies are: {', '.join(self._held) or 'none'}")
        return int(self._held[name].getsockname()[1])

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start the process and every proxy; nothing to do when it runs. Raises ToxiproxyError."""
        if self.running:
            return
        program = find_toxiproxy()
        self._process.folder.mkdir(parents=True, exist_ok=True)
        self._api = self._api or reserve_port()
        address = ["-host", HOST, "-port", str(self._api.getsockname()[1])]
        # What stands after "--" it does not read: a mark by which our processes are found.
        self._process.start([str(program), *address, "--", f"--rdknotify.owner={os.getpid()}"])
        deadline = time.monotonic() + timeout
        while not self._answers():
            if not self.running or time.monotonic() > deadline:
                self._process.kill()
                raise ToxiproxyError(f"{program} did not answer within {timeout:g} s:\n{self._process.log_tail(5)}")
            time.sleep(0.01)
        for name in self._held:
            self._create(name)

    def close(self) -> None:
        """End the process and give the ports back. Idempotent."""
        self._process.kill()
        for holder in [*self._held.values(), *([self._api] if self._api else [])]:
            holder.close()
        self._held, self._upstream, self._api = {}, {}, None

    def disable(self, name: str) -> None:
        """End every connection and refuse new ones."""
        with self._switching:
            self._disabled.add(name)
            self._enable(name, False)

    def enable(self, name: str) -> None:
        """Take connections again; nothing to do when it does."""
        with self._switching:
            self._disabled.discard(name)
            self._enable(name, True)

    def reset(self, name: str) -> None:
        """End every connection, and take new ones unless it is disabled."""
        with self._switching:
            if name not in self._disabled:
                self._enable(name, False)
                self._enable(name, True)

    def add_toxic(self, name: str, label: str, kind: str, direction: Direction, **attributes: int) -> None:
        """Add one of toxiproxy's toxics (``latency``, ``bandwidth``, ``timeout``, ``limit_data`` ...)."""
        toxic = {"name": label, "type": kind, "stream": direction, "attributes": attributes}
        self._ask("POST", f"{self._path(name)}/toxics", toxic)

    def remove_toxics(self, name: str, labels: Iterable[str]) -> None:
        """Remove toxics; those that are not there are ignored."""
        for label in labels:
            self._ask("DELETE", f"{self._path(name)}/toxics/{label}", absent_is_fine=True)

    def heal(self) -> None:
        """Enable every proxy and remove every toxic."""
        with self._switching:
            self._disabled.clear()
            self._ask("POST", "/reset")

    def _enable(self, name: str, enabled: bool) -> None:
        self._ask("POST", self._path(name), {"enabled": enabled})

    def _path(self, name: str) -> str:
        self.port(name)
        return f"/proxies/{name.replace(' ', '%20')}"

    def _create(self, name: str) -> None:
        listen, upstream = f"{HOST}:{self.port(name)}", f"{HOST}:{self._upstream[name]}"
        self._ask("POST", "/proxies", {"name": name, "listen": listen, "upstream": upstream, "enabled": True})

    def _answers(self) -> bool:
        try:
            self._ask("GET", "/version")
        except ToxiproxyError:
            return False
        return True

    def _ask(self, method: str, path: str, body: Any = None, absent_is_fine: bool = False) -> None:
        if self._api is None:
            raise ToxiproxyError("the proxies do not run: start() them, or use them in a with block")
        connection = http.client.HTTPConnection(HOST, self._api.getsockname()[1], timeout=ANSWER_TIMEOUT)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read().decode(errors="replace").strip()
        except (OSError, http.client.HTTPException) as error:
            raise ToxiproxyError(f"toxiproxy did not answer {method} {path}: {error}") from None
        finally:
            connection.close()
        if response.status >= 400 and not (absent_is_fine and response.status == http.client.NOT_FOUND):
            raise ToxiproxyError(f"toxiproxy refused {method} {path}: {text}")
