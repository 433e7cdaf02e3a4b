"""What the sinks share: one connection for all users in turn, none in a forked child, offsets that never go back."""

from __future__ import annotations

import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Generic, NamedTuple, TypeVar

from rdknotify.errors import ClosedError, ConfigError
from rdknotify.shapes import Partition
from rdknotify.sinks import OffsetsBehind, SinkError, Span, TopicReplaced
from rdknotify.sinks.schema import Schema
from rdknotify.topics import TopicPartition

__all__ = ["DatabaseSink", "Held", "check_table"]

C = TypeVar("C")


class Held(NamedTuple):
    """What a database holds of a partition."""

    next: int
    topic_id: str | None


def check_table(table: str, longest: int, *, prefixed: bool = False) -> None:
    """Raise ConfigError for a table's name that is unfit; ``prefixed`` ones may begin with a schema and a dot."""
    parts = table.split(".")
    good = all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", part) and len(part) <= longest for part in parts)
    if not good or len(parts) > 1 + prefixed:
        also = ", if need be after a schema's name and a dot" if prefixed else ""
        raise ConfigError(
            f"table={table!r}: use a letter, then letters, digits and underscores, {longest} at most{also}"
        )


class DatabaseSink(ABC, Generic[C]):
    """Opened by its first user and closed by its last; threads take turns."""

    def __init__(self, place: str) -> None:
        self._place = place
        """The database's name in errors."""
        self._lock = threading.Lock()
        self._connection: C | None = None
        self._users = 0
        self._pid = 0

    def open(self, schema: Schema) -> None:
        """Connect and make what is missing; raises SinkError when the table is there with other columns."""
        with self._turn():
            if not self._users:
                self._pid = os.getpid()
            try:
                if self._connection is None:
                    self._connection = self._connect()
                self._prepare(self._connection, schema)
            except BaseException:
                if not self._users:
                    self._disconnect()
                raise
            self._users += 1

    def close(self) -> None:
        """Disconnect, once every persister that opened it has closed it; idempotent."""
        if self._forked:
            return
        with self._lock:
            self._users = max(0, self._users - 1)
            if not self._users:
                self._disconnect()

    @abstractmethod
    def _connect(self) -> C:
        """A new connection."""

    @abstractmethod
    def _prepare(self, database: C, schema: Schema) -> None:
        """Make the tables that are missing, check those that are there."""

    @abstractmethod
    def _hang_up(self, database: C) -> None:
        """Close it; raises nothing."""

    @abstractmethod
    def _in_words(self) -> AbstractContextManager[None]:
        """Say which database it was and what to do, in place of a driver's bare words."""

    @property
    def _forked(self) -> bool:
        return self._users > 0 and self._pid != os.getpid()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._forked:  # before the lock, which may have been held at the fork
            raise ClosedError(f"{self} was opened before this process was forked; make a new one")
        with self._lock, self._in_words():
            yield

    def _current(self) -> C:
        """The connection; a new one where it was lost."""
        if not self._users:
            raise ClosedError(f"{self} is not open")
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._hang_up(connection)

    def _check_columns(self, table: str, found: Sequence[str], schema: Schema) -> None:
        names = [column.name for column in schema.columns]
        if list(found) != names:
            raise SinkError(
                f"table {table} of {self._place} has the columns {', '.join(found)}, but the schema needs "
                f"{', '.join(names)}; give another table= or database"
            )

    def _check_spans(self, held: Mapping[Partition, Held], spans: Mapping[TopicPartition, Span]) -> None:
        """Raise TopicReplaced; or OffsetsBehind for partitions of which the database holds less than was stored."""
        for key, span in spans.items():
            known = held[key].topic_id if key in held else None
            if known is not None and span.topic_id not in (None, known):
                raise TopicReplaced(
                    f"topic {key.topic} was deleted and made anew: database {self._place} holds offsets of that with "
                    f"id {known}, now it is {span.topic_id}. Its new records would be taken for the old ones: give "
                    f"another table, or delete the rows and offsets of {key.topic} from this one"
                )
        reached = {key: held[key].next if key in held else None for key in spans}
        behind = [
            key
            for key, span in spans.items()
            if span.expected is not None and ((found := reached[key]) is None or found < span.expected)
        ]
        if behind:
            first = behind[0]
            raise OffsetsBehind(
                behind,
                f"database {self._place} went back: of {first[0]}-{first[1]} it holds offset {reached[first]}, but "
                f"{spans[first].expected} was stored; reading again from what it holds",
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place!r})"
