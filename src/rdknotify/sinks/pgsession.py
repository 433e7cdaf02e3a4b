"""A session on PostgreSQL whose every wait ends and whose errors say what to do."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.adapt import Dumper
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Format

from rdknotify.errors import ConfigError
from rdknotify.sinks import RowRefused, SinkError

__all__ = ["Session", "in_words", "place_of"]

R = TypeVar("R")

_REFUSALS = (psycopg.DataError, psycopg.IntegrityError)

_TOO_LARGE = "54"
"""The class of SQLSTATEs for a value beyond a limit of the server, as a message id too long for its index."""

_REMEDIES = {
    "08": "check that the server runs and can be reached",
    "25006": "it is a replica, or read-only: connect to the primary (target_session_attrs=read-write)",
    "40": "another transaction was in the way; it works when tried again",
    "42501": "grant the right to this user",
    "42P01": "it was dropped meanwhile: make a new sink, or start the process again",
    "53100": "free some space",
    "53300": "close some connections, or allow more",
    "53": "the server lacks memory or reached a limit: see its log",
    "55P03": "another session held it all the time: end its transaction, or give a longer timeout=",
    "57014": "the server is slow, or another session is in the way: see to that, or give a longer timeout=",
    "57P": "wait until it is up again",
}
"""What to do, by the beginning of the SQLSTATE, first match."""

_UNREACHABLE = "check that the server runs, and host, port, database, user and password of the dsn"
"""What to do where there is no SQLSTATE: the connection failed."""


class _JsonText(Dumper):
    """JSON that is text already; psycopg's own dumpers make text of objects."""

    format = Format.BINARY
    oid = psycopg.adapters.types["jsonb"].oid

    def dump(self, obj: str) -> bytes:
        return b"\x01" + obj.encode()


class Session(psycopg.Connection[tuple[Any, ...]]):
    """One connection, with a transaction open from its first statement on. Not thread-safe."""

    limit = math.inf
    """Seconds that a server may take for an answer; one that hangs keeps no limit of its own."""

    @classmethod
    def start(cls, dsn: str, timeout: float) -> Session:
        """Connect; ``timeout`` (seconds) bounds that and the wait for a lock, twice as long a statement."""
        whole = max(1, math.ceil(timeout))
        session = cls.connect(
            dsn,
            connect_timeout=whole,
            client_encoding="utf8",
            fallback_application_name="rdknotify",
            keepalives_idle=whole,
            keepalives_interval=whole,
            keepalives_count=3,
            tcp_user_timeout=3000 * whole,
        )
        try:
            session.limit = 3 * timeout
            # A higher level would not see what the holder of a lock has committed.
            session.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            session.adapters.register_dumper(_JsonText, _JsonText)
            milliseconds = max(1, round(1000 * timeout))
            settings = {
                "timezone": "UTC",
                "lock_timeout": milliseconds,
                "statement_timeout": 2 * milliseconds,
                # A process that is stopped in a transaction would hold up its successor.
                "idle_in_transaction_session_timeout": 2 * milliseconds,
            }
            for name, value in settings.items():
                session.execute("SELECT set_config(%s, %s, false)", (name, str(value)))
            # A quarter of the server's work is the compression of payloads.
            session.execute(
                "SELECT set_config(name, 'lz4', false) FROM pg_settings "
                "WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)"
            )
            session.commit()
        except BaseException:
            session.close()
            raise
        return session

    def wait(self, gen: Generator[Any, Any, R], *args: Any, **kwargs: Any) -> R:
        return super().wait(self._limited(gen), *args, **kwargs)

    def _limited(self, gen: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
        deadline = time.monotonic() + self.limit
        try:
            state = next(gen)
            while True:
                ready = yield state
                if not ready and time.monotonic() > deadline:
                    self.limit = 0.0  # what is done to clean up shall not wait as long
                    raise psycopg.OperationalError("the server does not answer")
                state = gen.send(ready)
        except StopIteration as end:
            value: R = end.value
            return value

    def rolled_back(self) -> bool:
        """Give up the transaction; false where the session is of no more use."""
        try:
            self.rollback()
        except psycopg.Error:
            return False
        return True


def place_of(dsn: str) -> str:
    """Which database it is, without its secrets. Raises ConfigError for what is no connection string."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:  # whose text may contain the password
        given = {"host": "?@"}
    if "@" in str(given.get("host", ""))[1:]:  # the end of a password that has one
        raise ConfigError(
            "dsn: is no connection string of PostgreSQL; write host=... dbname=... or "
            "postgresql://user:password@host:port/database, with special characters of the password as %40 and so on"
        )
    named = (f"{key}={given[key]}" for key in ("service", "host", "hostaddr", "port", "dbname") if given.get(key))
    return " ".join(named) or "PostgreSQL"


@contextmanager
def in_words(place: str) -> Iterator[None]:
    """SinkError and RowRefused in place of psycopg's errors: which database it was, and what to do."""
    try:
        yield
    except psycopg.Error as error:
        state = error.sqlstate or ""
        # The other parts of a server's message show whole rows.
        text = error.diag.message_primary or " ".join(str(error).split())
        if isinstance(error, _REFUSALS) or state.startswith(_TOO_LARGE):
            raise RowRefused(f"{place}: {text}") from error
        found = (remedy for begin, remedy in _REMEDIES.items() if state.startswith(begin))
        remedy = next(found, "see the server's log") if state else _UNREACHABLE
        raise SinkError(f"database {place}: {text}; {remedy}") from error
