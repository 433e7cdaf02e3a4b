"""A real PostgreSQL server on this machine, for tests and measurements of what stores in a database."""

from __future__ import annotations

import atexit
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from rdknotify.errors import RdNotifyError
from rdknotify.testing.block import Startable
from rdknotify.testing.process import HOST, GuardedProcess, reserve_port

__all__ = ["LocalPostgres", "LocalPostgresError", "find_postgres"]

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian's packages are, by version."""

START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0
"""Seconds of grace before a server that ought to stop is killed."""

_USER = "rdknotify"
_ROOTS_SERVANT = "postgres"
"""The server refuses to run as root; Debian's package makes this user."""

_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "mmap",  # a file in the data, so that nothing stays behind in /dev/shm
}


class LocalPostgresError(RdNotifyError):
    """A PostgreSQL server cannot be had; the text says what to do or to look at."""


def find_postgres() -> Path:
    """The folder of ``initdb`` and ``postgres``: in ``PATH``, else the newest of Debian's packages."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    versions = DEBIAN.glob("*/bin")
    folders += sorted(versions, key=lambda folder: float(re.sub(r"[^\d.]", "", folder.parent.name) or 0), reverse=True)
    for folder in folders:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise LocalPostgresError("PostgreSQL is missing: install it (Debian: apt install postgresql)")


class LocalPostgres(Startable):
    """PostgreSQL on a free port of 127.0.0.1, with a password; a context manager. Not thread-safe.

    ::

        with LocalPostgres() as postgres:
            sink = rdknotify.PostgresSink(postgres.create_database())

    No server outlives this process, however it ends; the data are in a temporary folder that :meth:`close`
    removes. ``config`` has settings of the server, which are PostgreSQL's defaults otherwise. Started by root,
    it runs as the user ``postgres``. Needs psycopg and :func:`find_postgres`.
    """

    def __init__(self, config: Mapping[str, object] | None = None) -> None:
        self._config = dict(config or {})
        self._folder: Path | None = None
        self._owner = os.getpid()
        self._user = _ROOTS_SERVANT if os.geteuid() == 0 else None
        self._password = secrets.token_hex(8)
        self._databases = 0

    @property
    def folder(self) -> Path:
        """Where the data and the log are, until :meth:`close`."""
        if self._folder is None:
            raise LocalPostgresError("this LocalPostgres is closed or was not started: start() it")
        return self._folder

    @property
    def dsn(self) -> str:
        """Of the database ``postgres``, for its superuser."""
        return self._dsn("postgres")

    def create_database(self) -> str:
        """Make an empty database; returns its DSN."""
        import psycopg

        self._databases += 1
        name = f"database{self._databases}"
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
        return self._dsn(name)

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start the server, or resume it, and wait until it answers. Raises :class:`LocalPostgresError`."""
        programs = find_postgres()
        fresh = self._folder is None
        try:
            if fresh:
                self._prepare(programs, timeout)
            elif self._process.paused:
                self.resume()
            settings = {**_SETTINGS, "port": self._port, "rdknotify.owner": self._owner, **self._config}
            options = [f"--{name}={value}" for name, value in settings.items()]
            self._process.start([str(programs / "postgres"), "-D", str(self._data), *options], self._user)
            self._wait_ready(timeout)
        except BaseException:
            if fresh:
                self.close()
            raise

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """End every session and the server, data kept; what runs after ``timeout`` seconds is killed."""
        self._end(signal.SIGINT, timeout)

    def kill(self) -> None:
        """End the server as a crash does: the next :meth:`start` recovers what was committed."""
        self._end(signal.SIGQUIT, STOP_TIMEOUT)

    def pause(self) -> None:
        """SIGSTOP the server and all its sessions: connections stay, nobody answers. Raises if it is down."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT what :meth:`pause` stopped. Raises if it is down."""
        self._signal_all(signal.SIGCONT)

    def close(self) -> None:
        """Kill the server and remove its data. Idempotent; :meth:`start` would begin anew.

        In a forked child it does nothing: the server is the parent's.
        """
        if self._folder is None or os.getpid() != self._owner:
            return
        self.kill()
        self._holder.close()
        atexit.unregister(self.close)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def _dsn(self, database: str) -> str:
        assert self.folder
        return f"postgresql://{_USER}:{self._password}@{HOST}:{self._port}/{database}"

    def _end(self, number: signal.Signals, timeout: float) -> None:
        assert self.folder
        if self._process.paused:
            self.resume()
        if self._process.running:
            self._process.send(number)
        if not self._process.wait(timeout):
            self._process.kill()

    def _signal_all(self, number: signal.Signals) -> None:
        assert self.folder
        self._process.send(number)  # first: stopped, it starts no more sessions
        for session in self._process.children():
            try:
                os.kill(session, number)
            except ProcessLookupError:
                continue

    def _prepare(self, programs: Path, timeout: float) -> None:
        """Folder, port, an empty cluster."""
        self._owner = os.getpid()
        self._folder = Path(tempfile.mkdtemp(prefix="rdknotify-postgres-"))
        atexit.register(self.close)
        self._data = self._folder / "data"
        self._holder = reserve_port()
        self._port = int(self._holder.getsockname()[1])
        # SIGQUIT, which cleans up: of a server that was killed, shared memory would stay behind.
        self._process = GuardedProcess(
            "PostgreSQL", self._folder, LocalPostgresError, farewell="-QUIT $$; kill -CONT $$"
        )
        password = self._folder / "password"
        password.write_text(self._password)
        if self._user is not None:
            try:
                for path in (self._folder, password):
                    shutil.chown(path, self._user, self._user)
            except LookupError:
                raise LocalPostgresError(
                    f"PostgreSQL does not run as root, and there is no user {self._user}: make it, or be another user"
                ) from None
        command = [str(programs / "initdb"), "-D", str(self._data), f"--username={_USER}", f"--pwfile={password}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]
        done = subprocess.run(
            command,
            cwd=self._folder,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        if done.returncode:
            raise LocalPostgresError(f"initdb failed: {done.stdout.strip()}")

    def _wait_ready(self, timeout: float) -> None:
        import psycopg

        deadline = time.monotonic() + timeout
        while True:
            try:
                psycopg.connect(self.dsn, connect_timeout=2).close()
                return
            except psycopg.OperationalError as error:
                if not self._process.running or time.monotonic() > deadline:
                    end = self._process.log_tail(15)
                    raise LocalPostgresError(f"PostgreSQL did not get ready: {error}\n{end}") from None
            time.sleep(0.02)
