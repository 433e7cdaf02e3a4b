"""SQLite as a sink: one file, rows and offsets in one transaction, several processes of a group may share it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rdknotify.errors import ConfigError
from rdknotify.shapes import Partition
from rdknotify.sinks import RowRefused, SinkError, Span
from rdknotify.sinks.base import DatabaseSink, Held, check_table
from rdknotify.sinks.schema import Schema
from rdknotify.topics import TopicPartition

__all__ = ["SQLiteSink"]

_TYPES = {
    "text": "TEXT",
    "integer": "INTEGER",
    "real": "REAL",
    "blob": "BLOB",
    "json": "TEXT",
    "timestamp": "TEXT",
}

_REFUSALS = (
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    OverflowError,
    UnicodeEncodeError,
)
"""What a value that does not fit raises, depending on Python's version."""

_BUSY_SLICE = 0.1  # seconds inside SQLite, where Ctrl-C is not noticed

_REMEDIES = (
    ("disk is full", "free some space"),
    ("locked", "another process held it all the time: end its transaction, or give a longer timeout="),
    ("readonly", "check the rights on it and on its folder"),
    ("unable to open", "check that its folder exists, and the rights on it"),
    ("not a database", "give another path"),
    ("malformed", "restore it, or give another path"),
)
"""What to do, by a part of SQLite's message (its error names came with Python 3.11 only)."""


class SQLiteSink(DatabaseSink[sqlite3.Connection]):
    """Rows in ``table``, next offsets in ``<table>_offsets``, in write-ahead mode.

    Args:
        path: the database file; made when it is missing, its folder must exist.
        table: the table's name; made when it is missing, else its columns must be the schema's.
        timeout: seconds to wait for another process's transaction.

    A commit survives a crash of the process. After a crash of the *machine* the newest transactions may be
    missing, rows and offsets together (``synchronous=NORMAL``): the persister goes on from the older offsets,
    so nothing is lost or twice. Safe for several threads, which take turns. Raises ConfigError for a bad path
    or table name.
    """

    def __init__(self, path: str | os.PathLike[str], table: str = "notifications", *, timeout: float = 10.0) -> None:
        self.path = Path(path)
        self.table = table
        self._timeout = timeout
        check_table(table, 100)
        if not self.path.parent.is_dir():
            raise ConfigError(f"SQLiteSink({str(path)!r}): the folder {self.path.parent} does not exist; make it first")
        if self.path.is_dir():
            raise ConfigError(f"SQLiteSink({str(path)!r}): is a folder; name a file in it")
        super().__init__(str(self.path))
        self._insert = ""

    def restore(self, group: str, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offsets held for this group, for those of the partitions that have one."""
        with self._turn():
            held = self._held(self._current(), group)
        return {TopicPartition(*partition): held[partition].next for partition in partitions if partition in held}

    def store(self, group: str, rows: Sequence[tuple[Any, ...]], spans: Mapping[TopicPartition, Span]) -> int:
        """One transaction, as :class:`~rdknotify.sinks.Sink` says; waits up to the timeout for the write lock."""
        with self._turn(), self._transaction(self._current()) as database:
            self._check_spans(self._held(database, group), spans)
            new = database.executemany(self._insert, rows).rowcount if rows else 0
            database.executemany(
                f'INSERT INTO "{self.table}_offsets" VALUES (?, ?, ?, ?, ?) '
                "ON CONFLICT (consumer_group, topic, partition) "
                "DO UPDATE SET next_offset = max(next_offset, excluded.next_offset), "
                "topic_id = coalesce(excluded.topic_id, topic_id)",
                [(group, *key, span.next, span.topic_id) for key, span in spans.items()],
            )
        return new

    # -- inside, with the lock held --------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=_BUSY_SLICE, isolation_level=None, check_same_thread=False)

    def _prepare(self, database: sqlite3.Connection, schema: Schema) -> None:
        # While it is empty: rows of 2 KB fill pages of 4 KiB, SQLite's default, badly (a third more time and disk).
        database.execute("PRAGMA page_size = 16384")
        self._patiently(lambda: database.execute("PRAGMA journal_mode = WAL"))
        database.execute("PRAGMA synchronous = NORMAL")
        columns = ", ".join(f'"{column.name}" {_TYPES[column.kind]}' for column in schema.columns)
        with self._transaction(database):
            database.execute(
                f'CREATE TABLE IF NOT EXISTS "{self.table}" ({columns}, UNIQUE (topic, partition, "offset"))'
            )
            if schema.message_id is not None:
                database.execute(
                    f'CREATE UNIQUE INDEX IF NOT EXISTS "{self.table}_{schema.message_id}" '
                    f'ON "{self.table}" ("{schema.message_id}")'
                )
            database.execute(
                f'CREATE TABLE IF NOT EXISTS "{self.table}_offsets" (consumer_group TEXT, topic TEXT, '
                "partition INTEGER, next_offset INTEGER NOT NULL, topic_id TEXT, "
                "PRIMARY KEY (consumer_group, topic, partition)) WITHOUT ROWID"
            )
        found = [row[1] for row in database.execute(f'PRAGMA table_info("{self.table}")')]
        self._check_columns(self.table, found, schema)
        self._insert = f'INSERT INTO "{self.table}" VALUES ({", ".join("?" * len(found))}) ON CONFLICT DO NOTHING'

    def _hang_up(self, database: sqlite3.Connection) -> None:
        database.close()

    def _held(self, database: sqlite3.Connection, group: str) -> dict[Partition, Held]:
        found = database.execute(
            f'SELECT topic, partition, next_offset, topic_id FROM "{self.table}_offsets" WHERE consumer_group = ?',
            (group,),
        )
        return {(topic, partition): Held(*held) for topic, partition, *held in found}

    @contextmanager
    def _transaction(self, database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        self._patiently(lambda: database.execute("BEGIN IMMEDIATE"))
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:  # SQLite has rolled back by itself after some errors
                database.execute("ROLLBACK")
            raise

    def _patiently(self, action: Callable[[], object]) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                action()
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= deadline:
                    raise

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except _REFUSALS as error:
            raise RowRefused(f"{self.path}: {error}") from error
        except sqlite3.Error as error:
            remedy = next((f"; {remedy}" for words, remedy in _REMEDIES if words in str(error)), "")
            raise SinkError(f"database {self.path}: {error}{remedy}") from error
