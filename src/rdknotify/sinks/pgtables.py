"""The statements of PostgresSink: its table of rows, its offsets, and the staging table of a session."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from rdknotify.shapes import Partition
from rdknotify.sinks import SinkError, Span
from rdknotify.sinks.base import Held
from rdknotify.sinks.pgsession import Session
from rdknotify.sinks.schema import ORIGIN, Schema
from rdknotify.topics import TopicPartition

__all__ = ["Tables"]

_TYPES = {
    "text": "text",
    "integer": "bigint",
    "real": "double precision",
    "blob": "bytea",
    "json": "jsonb",
    "timestamp": "timestamptz",
}

_STAGED = {**_TYPES, "timestamp": "text"}
"""Binary COPY takes a timestamp as a number only, and the server reads the text sooner than Python."""

_STAGING = sql.Identifier("pg_temp", "rdknotify_rows")

_ADVISORY_LOCK = 0x72646B6E6F746966
"""Two sessions that make the same table at once would fail: "IF NOT EXISTS" is no lock."""

_NOTHING = -1
"""The next offset of a row that was made only to be locked; no transaction commits it."""

_MISFITS = (TypeError, ValueError, AttributeError, OverflowError, BufferError, struct.error)
"""What psycopg's dumpers raise for a value that does not fit its column."""


class Tables:
    """One table, its offsets, and how a session writes them. The caller commits."""

    def __init__(self, table: str, schema: Schema) -> None:
        self._schema = schema
        self._rows = sql.Identifier(*table.split("."))
        self._offsets = sql.Identifier(*f"{table}_offsets".split("."))
        self._types = [_STAGED[column.kind] for column in schema.columns]
        names = [sql.Identifier(column.name) for column in schema.columns]
        cast = [
            sql.SQL("{}::{}").format(name, sql.SQL(_TYPES[column.kind]))
            for name, column in zip(names, schema.columns, strict=True)
        ]
        self._insert = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} ON CONFLICT DO NOTHING").format(
            self._rows, _listed(names), _listed(cast), _STAGING
        )

    def make(self, session: Session) -> None:
        """Create those of the two tables that are missing; one that is there needs no right to create."""
        session.execute("SELECT pg_advisory_xact_lock(%s)", (_ADVISORY_LOCK,))
        columns = [_definition(column.name, _TYPES[column.kind]) for column in self._schema.columns]
        unique = [sql.SQL("UNIQUE ({})").format(_identifiers(names)) for names in self._unique()]
        self._make(session, self._rows, [*columns, *unique])
        self._make(
            session,
            self._offsets,
            [
                _definition("consumer_group", "text"),
                _definition("topic", "text"),
                _definition("partition", "bigint"),
                _definition("next_offset", "bigint NOT NULL"),
                _definition("topic_id", "text"),
                sql.SQL("PRIMARY KEY (consumer_group, topic, partition)"),
            ],
        )

    def columns(self, session: Session) -> list[str]:
        """The names of the columns that the table has."""
        found = session.execute(
            "SELECT attname FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (self._rows.as_string(session),),
        )
        return [name for (name,) in found]

    def check_uniqueness(self, session: Session) -> None:
        """Raise SinkError for a table that somebody made without: it would take rows twice."""
        found = session.execute(
            "SELECT array_agg(attname::text) FROM pg_index JOIN pg_attribute ON attrelid = indrelid "
            "AND attnum = ANY(indkey) WHERE indrelid = %s::regclass AND indisunique AND indimmediate "
            "AND indisvalid AND indpred IS NULL AND indexprs IS NULL AND indnatts = indnkeyatts GROUP BY indexrelid",
            (self._rows.as_string(session),),
        )
        there = [set(names) for (names,) in found]
        for names in self._unique():
            if set(names) not in there:
                table, columns = self._rows.as_string(session), _identifiers(names).as_string(session)
                raise SinkError(
                    f"table {table} would take rows twice: ALTER TABLE {table} ADD UNIQUE ({columns}), "
                    "or give another table="
                )

    def make_staging(self, session: Session) -> None:
        """The temporary table that rows are copied into; lives as long as the session, empty after each commit."""
        columns = [
            _definition(column.name, kind) for column, kind in zip(self._schema.columns, self._types, strict=True)
        ]
        session.execute(
            sql.SQL("CREATE TEMPORARY TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS").format(
                _STAGING, _listed(columns)
            )
        )

    def stage(self, session: Session, rows: Sequence[tuple[Any, ...]]) -> None:
        """Copy rows into the staging table, which locks nothing; psycopg.DataError where a value does not fit."""
        with session.cursor().copy(sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(_STAGING)) as copy:
            copy.set_types(self._types)
            write_row = copy.write_row
            try:
                for row in rows:
                    write_row(row)
            except _MISFITS as error:
                raise psycopg.DataError(f"{type(error).__name__}: {error}") from error

    def insert(self, session: Session) -> int:
        """Add the staged rows that are not there yet; returns how many."""
        return session.execute(self._insert).rowcount

    def held(self, session: Session, group: str) -> dict[Partition, Held]:
        """What is held for a group."""
        query = "SELECT topic, partition, next_offset, topic_id FROM {} WHERE consumer_group = %s"
        found = session.execute(sql.SQL(query).format(self._offsets), (group,))
        return {(topic, partition): Held(*held) for topic, partition, *held in found}

    def lock(self, session: Session, group: str, partitions: Iterable[TopicPartition]) -> dict[Partition, Held]:
        """What is held of these partitions, which no other session stores before this one's transaction ends.

        All sessions take them in the same order, those that are missing first: so none waits for a waiting one.
        """
        keys = sorted(partitions)
        chosen = (group, [key[0] for key in keys], [key[1] for key in keys])
        session.execute(
            sql.SQL(
                "INSERT INTO {} SELECT %s, topic, partition, %s FROM unnest(%s::text[], %s::bigint[]) "
                "AS wanted (topic, partition) ON CONFLICT DO NOTHING"
            ).format(self._offsets),
            (group, _NOTHING, *chosen[1:]),
        )
        found = session.execute(
            sql.SQL(
                "SELECT topic, partition, next_offset, topic_id FROM {} "
                "WHERE consumer_group = %s AND (topic, partition) IN "
                '(SELECT * FROM unnest(%s::text[], %s::bigint[])) ORDER BY topic COLLATE "C", partition FOR UPDATE'
            ).format(self._offsets),
            chosen,
        )
        return {(topic, partition): Held(*held) for topic, partition, *held in found if held[0] != _NOTHING}

    def advance(self, session: Session, group: str, spans: Mapping[TopicPartition, Span]) -> None:
        """Set the next offsets of locked partitions, where that is forward, and the ids of their topics."""
        stored = [(*key, span.next, span.topic_id) for key, span in spans.items()]
        session.execute(
            sql.SQL(
                "UPDATE {} AS held SET next_offset = greatest(held.next_offset, stored.next_offset), "
                "topic_id = coalesce(stored.topic_id, held.topic_id) "
                "FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::text[]) "
                "AS stored (topic, partition, next_offset, topic_id) "
                "WHERE held.consumer_group = %s AND held.topic = stored.topic AND held.partition = stored.partition"
            ).format(self._offsets),
            (*(list(column) for column in zip(*stored, strict=True)), group),
        )

    def _unique(self) -> list[list[str]]:
        """Which columns together are unique."""
        message_id = self._schema.message_id
        return [[column.name for column in ORIGIN], *([[message_id]] if message_id is not None else [])]

    def _make(self, session: Session, name: sql.Identifier, definitions: Sequence[sql.Composable]) -> None:
        (found,) = session.execute("SELECT to_regclass(%s)", (name.as_string(session),)).fetchone() or (None,)
        if found is None:
            session.execute(sql.SQL("CREATE TABLE {} ({})").format(name, _listed(definitions)))


def _listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)


def _identifiers(names: Iterable[str]) -> sql.Composed:
    return _listed(sql.Identifier(name) for name in names)


def _definition(name: str, kind: str) -> sql.Composed:
    return sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))
