"""PostgreSQL as a sink: rows by binary COPY, with their offsets in one transaction, for any number of processes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from rdknotify.errors import ConfigError
from rdknotify.sinks import Span
from rdknotify.sinks.base import DatabaseSink, check_table
from rdknotify.sinks.schema import Schema
from rdknotify.topics import TopicPartition

if TYPE_CHECKING:
    from rdknotify.sinks.pgsession import Session
    from rdknotify.sinks.pgtables import Tables

__all__ = ["PostgresSink"]

_LONGEST = 63 - len("_offsets")
"""PostgreSQL cuts longer names off without a word."""


class PostgresSink(DatabaseSink["Session"]):
    """Rows in ``table``, next offsets in ``<table>_offsets``. Needs ``pip install 'rdknotify[postgres]'``.

    Args:
        dsn: as libpq takes it: ``postgresql://user:password@host:port/database`` or ``host=... dbname=...``.
        table: the table's name, if need be with its schema's and a dot before it; made when it is missing, else
            its columns must be the schema's, and unique where the schema says so.
        timeout: seconds to connect and to wait for another session's lock; a statement may take twice as long,
            a server that is silent is given up after three times.

    Columns are text, bigint, double precision, bytea, jsonb and timestamptz (a time without a zone is UTC). A
    transaction locks the offsets of its partitions, so that members that take one from the other go one after the
    other, and a member that was stopped in a transaction loses it. A connection that fails is made anew by the next
    call. A commit survives whatever ``synchronous_commit`` of the server says. Safe for several threads, which
    take turns. Raises ConfigError for a bad ``dsn`` or table name, and where psycopg is missing.
    """

    def __init__(self, dsn: str, table: str = "notifications", *, timeout: float = 10.0) -> None:
        try:
            from rdknotify.sinks import pgsession, pgtables
        except ImportError as error:
            raise ConfigError(f"PostgresSink needs psycopg: pip install 'rdknotify[postgres]' ({error})") from error
        self.table = table
        self._dsn = dsn
        self._timeout = timeout
        check_table(table, _LONGEST, prefixed=True)
        if timeout <= 0:
            raise ConfigError(f"timeout={timeout!r}: must be more than 0 seconds")
        super().__init__(pgsession.place_of(dsn))
        self._words, self._start, self._tables_of = pgsession.in_words, pgsession.Session.start, pgtables.Tables
        self._tables: Tables | None = None

    def restore(self, group: str, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offsets held for this group, for those of the partitions that have one."""
        with self._turn(), self._transaction() as (session, tables):
            held = tables.held(session, group)
        return {TopicPartition(*partition): held[partition].next for partition in partitions if partition in held}

    def store(self, group: str, rows: Sequence[tuple[Any, ...]], spans: Mapping[TopicPartition, Span]) -> int:
        """One transaction, as :class:`~rdknotify.sinks.Sink` says."""
        new = 0
        with self._turn(), self._transaction() as (session, tables):
            if rows:
                tables.stage(session, rows)  # before the locks, which last as short as can be
            if spans:
                self._check_spans(tables.lock(session, group, spans), spans)
            if rows:
                new = tables.insert(session)
            if spans:
                tables.advance(session, group, spans)
        return new

    # -- inside, with the lock held --------------------------------------------------------------------------

    def _connect(self) -> Session:
        session = self._start(self._dsn, self._timeout)
        if self._tables is not None:
            try:
                self._tables.make_staging(session)
                session.commit()
            except BaseException:
                session.close()
                raise
        return session

    def _prepare(self, database: Session, schema: Schema) -> None:
        tables = self._tables_of(self.table, schema)
        with self._committing(database):
            tables.make(database)
            self._check_columns(self.table, tables.columns(database), schema)
            tables.check_uniqueness(database)
            tables.make_staging(database)
        self._tables = tables

    def _hang_up(self, database: Session) -> None:
        database.close()

    def _in_words(self) -> AbstractContextManager[None]:
        return self._words(self._place)

    @contextmanager
    def _transaction(self) -> Iterator[tuple[Session, Tables]]:
        session = self._current()
        assert self._tables is not None
        with self._committing(session):
            yield session, self._tables

    @contextmanager
    def _committing(self, session: Session) -> Iterator[None]:
        try:
            yield
            session.commit()
        except BaseException:
            if not session.rolled_back():
                self._disconnect()
            raise
