"""What a persister makes of a record: the columns of a row, and a function that fills them or finds it poison."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rdknotify import envelope
from rdknotify.errors import ConfigError

if TYPE_CHECKING:
    from rdknotify._rdknotify import Batch, Record

__all__ = ["NOTIFICATION", "RAW", "Column", "Poison", "Row", "Schema"]

Row = tuple[Any, ...]

Kind = Literal["text", "integer", "real", "blob", "json", "timestamp"]
"""What a column holds: ``str``, ``int``, ``float``, ``bytes``, and as ``str`` JSON text or ISO 8601 text in UTC."""


class Column(NamedTuple):
    """A column's name and what it holds; any of them may be None, save those of the origin."""

    name: str
    kind: Kind


class Poison(NamedTuple):
    """A record that became no row, and why."""

    record: Record
    reason: str


ORIGIN = (Column("topic", "text"), Column("partition", "integer"), Column("offset", "integer"))


@dataclass(frozen=True)
class Schema:
    """The columns of a table and how a record fills them.

    Args:
        own: the columns that ``fill`` gives values for; topic, partition and offset come after them by
            themselves.
        fill: makes the tuple of values of a :class:`~rdknotify.Record`, one for each of ``own``; any
            exception it raises means that the record is poison, and its text is the reason.
        message_id: the name of the column of ``own`` whose values, where not None, are unique in the table.

    Raises ConfigError for a name that is used twice, reserved or unknown.
    """

    own: Sequence[Column]
    fill: Callable[[Record], Row]
    message_id: str | None = None

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(
                    f"schema: column {name!r} is there twice; topic, partition and offset are added by themselves"
                )
        if self.message_id is not None and self.message_id not in names:
            raise ConfigError(f"schema: message_id={self.message_id!r} is none of its columns: {', '.join(names)}")

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns of the table, those of the origin last."""
        return (*(Column(*column) for column in self.own), *ORIGIN)

    def rows(self, batch: Batch) -> tuple[list[Row], list[Poison]]:
        """The rows of a batch in its order, and the records that are none."""
        rows: list[Row] = []
        poison: list[Poison] = []
        width = len(self.own)
        fill = self.fill
        for record, origin in zip(batch, batch.origins(), strict=True):
            try:
                row = fill(record)
                if len(row) != width:
                    raise ValueError(f"{len(row)} values for {width} columns")
            except Exception as error:
                poison.append(Poison(record, f"{type(error).__name__}: {error}"))
            else:
                rows.append(row + origin)
        return rows, poison


def _notification(record: Record) -> Row:
    return envelope.decode_flat(record.value or b"")


def _raw(record: Record) -> Row:
    headers = [[name, None if value is None else value.decode("latin-1")] for name, value in record.headers]
    return record.timestamp, record.key, record.value, json.dumps(headers) if headers else None


NOTIFICATION = Schema(
    own=(
        Column("message_id", "text"),
        Column("timestamp", "timestamp"),
        Column("publisher_id", "text"),
        Column("event_type", "text"),
        Column("priority", "text"),
        Column("payload", "json"),
    ),
    fill=_notification,
    message_id="message_id",
)
"""One row for each notification. Its context stays out: services put tokens into it."""

RAW = Schema(
    own=(
        Column("timestamp", "integer"),
        Column("key", "blob"),
        Column("value", "blob"),
        Column("headers", "json"),
    ),
    fill=_raw,
)
"""Any record as it is: milliseconds since the epoch, bytes, and headers as JSON pairs (bytes as Latin-1 text)."""
