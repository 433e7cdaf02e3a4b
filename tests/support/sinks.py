"""Our databases as the test kit of sinks wants them, and what the tests of the sinks share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rdknotify import PostgresSink, SQLiteSink
from rdknotify.testing.sinks import SCHEMA, T0, T1, rows
from support.database import ask
from support.postgres import query

__all__ = ["SCHEMA", "T0", "T1", "Database", "postgres_database", "rows", "sqlite_database"]


@dataclass
class Database:
    """One database: how to make a sink for it, and how to ask it something."""

    where: Any
    named: str
    make: Callable[..., SQLiteSink | PostgresSink]
    ask: Callable[[Any, str], list[tuple[Any, ...]]]

    def sink(self, **options: Any) -> SQLiteSink | PostgresSink:
        return self.make(self.where, **options)

    def does(self, sql: str) -> list[tuple[Any, ...]]:
        return self.ask(self.where, sql)

    def rows(self) -> list[tuple[Any, ...]]:
        return self.does('SELECT id, size, topic, partition, "offset" FROM notifications')


def sqlite_database(path: Any) -> Database:
    return Database(path, str(path), SQLiteSink, ask)


def postgres_database(dsn: str) -> Database:
    return Database(dsn, "host=127.0.0.1 port=", PostgresSink, query)
