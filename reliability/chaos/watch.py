"""Looking on from outside, past the proxies: what groups have committed and sinks hold, and in the end all there is."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg

from rdknotify import _rdknotify as core
from rdknotify.errors import KafkaError
from rdknotify.testing.block import Startable
from rdknotify.testing.checker import Commit, Held, Stored, Writer, runs
from reliability.chaos.setting import GROUPS, PARTITIONS, TOPIC

EVERY = 0.25
"""Seconds between two looks, and so how exactly a persister's progress is known."""
ANSWER_TIMEOUT = 2.0
ROWS = 50_000
"""Fetched at a time."""

Query = Callable[[str], Iterator[tuple[Any, ...]]]


def sqlite_query(path: str) -> Query:
    """Run one statement in a database file."""

    def query(sql: str) -> Iterator[tuple[Any, ...]]:
        with closing(sqlite3.connect(path, timeout=ANSWER_TIMEOUT)) as connection:
            yield from connection.execute(sql)

    return query


def postgres_query(dsn: str) -> Query:
    """Run one statement on a server."""

    def query(sql: str) -> Iterator[tuple[Any, ...]]:
        with psycopg.connect(dsn, connect_timeout=2) as connection, connection.cursor("reading") as cursor:
            cursor.itersize = ROWS
            yield from cursor.execute(sql.encode())

    return query


class Watch(Startable):
    """Notes commits, and what the sinks hold afterwards, until it is closed; a context manager."""

    def __init__(self, bootstrap: str, sinks: dict[str, Query], history: Writer) -> None:
        self._sinks, self._history = sinks, history
        self._partitions = [(TOPIC, partition) for partition in range(PARTITIONS)]
        self._outsiders = {
            group: core.Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": "2"})
            for group in GROUPS
        }
        self._reached: dict[str, int] = {}
        """Of each group, the sum of the next offsets."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        for outsider in self._outsiders.values():
            outsider.shut()

    def caught_up(self) -> bool:
        """Every group has reached the end of the log, as far as was seen."""
        some = next(iter(self._outsiders.values()))
        ends = some.offsets_for_times([(*partition, -1) for partition in self._partitions], ANSWER_TIMEOUT)
        return all(self._reached.get(group, 0) >= sum(ends.values()) for group in GROUPS)

    def _run(self) -> None:
        while not self._over.wait(EVERY):
            for group in GROUPS:
                self._look_at_commits(group)
            for group in self._sinks:
                self._look_at_sink(group)

    def _look_at_commits(self, group: str) -> None:
        try:
            committed = self._outsiders[group].committed(self._partitions, ANSWER_TIMEOUT)
        except KafkaError:
            return  # the coordinator is down, as it ought to be now and then
        at = time.monotonic()
        for (topic, partition), offset in committed.items():
            self._history.write(Commit(at, group, topic, partition, offset or 0))
        if group not in self._sinks:
            self._reached[group] = sum(offset or 0 for offset in committed.values())

    def _look_at_sink(self, group: str) -> None:
        at = time.monotonic()
        try:
            held: dict[int, int] = dict(self._sinks[group]("SELECT partition, next_offset FROM notifications_offsets"))
        except (sqlite3.Error, psycopg.Error):
            return  # not made yet, or down
        for partition in range(PARTITIONS):
            self._history.write(Held(at, group, TOPIC, partition, held.get(partition, 0)))
        self._reached[group] = sum(held.values())


def stored(group: str, query: Query) -> Iterator[Stored]:
    """All that a sink has, a part at a time."""
    rows = query('SELECT partition, "offset", message_id FROM notifications ORDER BY partition, "offset"')
    part: dict[int, tuple[list[int], list[int]]] = {}
    for number, (partition, offset, message_id) in enumerate(rows, 1):
        offsets, values = part.setdefault(partition, ([], []))
        offsets.append(offset)
        values.append(int(message_id))
        if number % ROWS == 0:
            yield from _told(group, part)
            part = {}
    yield from _told(group, part)


def _told(group: str, part: dict[int, tuple[list[int], list[int]]]) -> Iterator[Stored]:
    for partition, (offsets, values) in part.items():
        yield Stored(group, TOPIC, partition, runs(offsets, values))
