"""From Kafka into a database: the persister, and the loop that a careful developer writes on confluent-kafka.

All fill the same empty table, which the sink has made, in transactions of ``batch`` rows. The loop by hand commits a
batch's rows, then its offsets to Kafka, and waits for both; what a crash in between lets it read again, the table's
unique indexes leave out. The clock runs from the assignment of the partitions to the last commit.

``more`` has the ``path`` of an SQLite database, or the ``dsn`` of a PostgreSQL database and the name of a ``table``.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import orjson
import psycopg
from confluent_kafka import Consumer, KafkaException, Message

from benchmarks.clients.base import Client, Job, roles, stopwatch
from benchmarks.clients.ours import consuming
from benchmarks.setting import librdkafka_consuming
from rdknotify import Persister, PostgresSink, SQLiteSink
from rdknotify.sinks import NOTIFICATION, Schema, Sink, Span
from rdknotify.topics import TopicPartition

FULL_WAIT = 1.0
"""Seconds that a batch waits until it is full."""
ASSIGNED_TIMEOUT = 60.0
"""Seconds until there are partitions, at the most."""

Row = tuple[Any, ...]
Codec = tuple[Callable[[Any], Any], Callable[[Any], str]]
"""From JSON, and to JSON text."""
STANDARD: Codec = json.loads, partial(json.dumps, separators=(",", ":"))
FAST: Codec = orjson.loads, lambda payload: orjson.dumps(payload).decode()
COLUMNS = ", ".join(f'"{column.name}"' for column in NOTIFICATION.columns)


# -- the databases, with what is written by hand -------------------------------------------------------------


class Database:
    """A table made by the sink, and a connection beside it."""

    connection: Any

    def __init__(self, sink: Sink, table: str) -> None:
        self.sink, self.table = sink, table
        sink.open(NOTIFICATION)
        sink.close()

    def store(self, rows: Sequence[Row]) -> None:
        """One transaction; rows that are there are left out."""
        raise NotImplementedError

    def check(self, records: int) -> None:
        """That every record became one row."""
        query = f"SELECT count(*), count(DISTINCT message_id) FROM {self.table}"
        rows, different = self.connection.execute(query).fetchone()
        assert rows == different == records, f"{rows} rows of {different} notifications, {records} were waiting"

    def close(self) -> None:
        self.connection.close()


class SQLite(Database):
    """The pages' size and the write-ahead log are the file's, and so as the sink has made them."""

    def __init__(self, job: Job) -> None:
        path = job.more["path"]
        super().__init__(SQLiteSink(path), "notifications")
        self.connection = sqlite3.connect(path)
        self.connection.execute("PRAGMA synchronous = NORMAL")
        self._insert = f"INSERT OR IGNORE INTO {self.table} VALUES ({', '.join('?' * len(NOTIFICATION.columns))})"

    def store(self, rows: Sequence[Row]) -> None:
        with self.connection:
            self.connection.executemany(self._insert, rows)


class Postgres(Database):
    """The session compresses payloads as the sink's does: that is a setting, and no merit of a loop."""

    def __init__(self, job: Job) -> None:
        dsn, table = job.more["dsn"], job.more["table"]
        super().__init__(PostgresSink(dsn, table), table)
        options = "-c timezone=UTC -c default_toast_compression=lz4"
        self.connection = psycopg.connect(dsn, autocommit=True, options=options)
        self.connection.execute(f"CREATE TEMP TABLE staging (LIKE {table}) ON COMMIT DELETE ROWS")

    def store(self, rows: Sequence[Row]) -> None:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            with cursor.copy(f"COPY staging ({COLUMNS}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            cursor.execute(f"INSERT INTO {self.table} SELECT * FROM staging ON CONFLICT DO NOTHING")

    def close(self) -> None:
        self.connection.execute(f"DROP TABLE {self.table}, {self.table}_offsets")
        super().close()


# -- the loops -----------------------------------------------------------------------------------------------


def by_hand(kind: Callable[[Job], Database], codec: Codec, job: Job) -> None:
    with closing(kind(job)) as database:
        consumer = Consumer({"bootstrap.servers": job.brokers, **librdkafka_consuming(job.group)})
        taken = 0
        with closing(consumer), ExitStack() as clock:

            def on_assign(*_: object) -> None:
                clock.enter_context(stopwatch(job))

            consumer.subscribe([job.topic], on_assign=on_assign)
            while taken < job.records:
                messages = consumer.consume(job.batch, FULL_WAIT)
                if messages:
                    database.store([_row(message, codec) for message in messages])
                    consumer.commit(asynchronous=False)
                    taken += len(messages)
        database.check(job.records)


def _row(message: Message, codec: Codec) -> Row:
    loads, dumps = codec
    if error := message.error():
        raise KafkaException(error)
    notification = loads(loads(message.value())["oslo.message"])
    return (
        notification["message_id"],
        notification["timestamp"],
        notification["publisher_id"],
        notification["event_type"],
        notification["priority"],
        dumps(notification["payload"]),
        message.topic(),
        message.partition(),
        message.offset(),
    )


class Watched:
    """A sink seen from outside: whether partitions were assigned, and whether all rows were committed."""

    def __init__(self, sink: Sink, rows: int) -> None:
        self._sink = sink
        self._missing = rows
        self.assigned, self.complete = threading.Event(), threading.Event()

    def open(self, schema: Schema) -> None:
        self._sink.open(schema)

    def restore(self, group: str, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.assigned.set()
        return self._sink.restore(group, partitions)

    def store(self, group: str, rows: Sequence[Row], spans: Mapping[TopicPartition, Span]) -> int:
        new = self._sink.store(group, rows, spans)
        self._missing -= new
        if self._missing <= 0:
            self.complete.set()
        return new

    def close(self) -> None:
        self._sink.close()


def persist(kind: Callable[[Job], Database], job: Job) -> None:
    with closing(kind(job)) as database:
        sink = Watched(database.sink, job.records)
        with Persister(
            f"kafka://{job.brokers}", [job.topic], group=job.group, sink=sink,
            batch_size=job.batch, max_wait=FULL_WAIT, config=consuming(job),
        ) as persister:  # fmt: skip
            assert sink.assigned.wait(ASSIGNED_TIMEOUT), "no partitions were assigned"
            with stopwatch(job):
                while not sink.complete.wait(0.5):
                    persister.wait(0)  # raises what ended it
        database.check(job.records)


def _loops(kind: Callable[[Job], Database]) -> dict[str, Client]:
    return {
        "rdknotify persister": partial(persist, kind),
        "by hand": partial(by_hand, kind, STANDARD),
        "by hand, orjson": partial(by_hand, kind, FAST),
    }


ROLES = roles(sqlite=_loops(SQLite), postgres=_loops(Postgres))
