"""Where a record that we publish again came from: the ``rdknotify.*`` headers, written and read here only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "ATTEMPTS",
    "DONE",
    "DONE_AS",
    "GROUP",
    "NOT_BEFORE",
    "OFFSET",
    "PARTITION",
    "PREFIX",
    "REASON",
    "TIMESTAMP",
    "TOPIC",
    "Origin",
    "ReadRecord",
    "origin_headers",
]

PREFIX = "rdknotify."
TOPIC = PREFIX + "topic"
PARTITION = PREFIX + "partition"
OFFSET = PREFIX + "offset"
TIMESTAMP = PREFIX + "timestamp"
GROUP = PREFIX + "group"
REASON = PREFIX + "reason"
ATTEMPTS = PREFIX + "attempts"
NOT_BEFORE = PREFIX + "not_before"
DONE = PREFIX + "done"
"""``partition-offset`` of a dead letter of the same topic that was dealt with; such a record is only this marker."""
DONE_AS = PREFIX + "done_as"
"""What became of it."""

HeaderList = list[tuple[str, bytes | None]]


class ReadRecord(Protocol):
    """What is needed of a consumed record; :class:`rdknotify.Record` is one."""

    @property
    def value(self) -> bytes | None: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def headers(self) -> HeaderList: ...
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record was first consumed, and what has happened to it since.

    Attributes:
        timestamp: the first record's, in milliseconds since the epoch; None where it had none.
        group: the consumer group that published it again; None: nobody did, the record is itself the origin.
        attempts: how often that group handed it to its endpoints.
        not_before: milliseconds since the epoch before which it is not to be handed out again; 0: at once.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    group: str | None = None
    attempts: int = 0
    not_before: int = 0

    @classmethod
    def of(cls, record: ReadRecord) -> Origin:
        """Read the headers of ``record``; without them (or with unreadable ones) it is its own origin."""
        found = {name: value for name, value in record.headers if name.startswith(PREFIX) and value is not None}
        try:
            return cls(
                topic=found[TOPIC].decode(),
                partition=int(found[PARTITION]),
                offset=int(found[OFFSET]),
                timestamp=int(found[TIMESTAMP]) if TIMESTAMP in found else None,
                group=found[GROUP].decode(),
                attempts=int(found.get(ATTEMPTS, b"0")),
                not_before=int(found.get(NOT_BEFORE, b"0")),
            )
        except (KeyError, ValueError):
            return cls(record.topic, record.partition, record.offset, record.timestamp)


def origin_headers(
    record: ReadRecord,
    group: str,
    *,
    reason: str | None = None,
    attempts: int | None = None,
    not_before: int | None = None,
) -> HeaderList:
    """Headers for publishing ``record`` again: its own ones, and where it *first* came from.

    A record that was published again before keeps its first origin and, unless given, its count of
    ``attempts``.
    """
    origin = Origin.of(record)
    if attempts is None and origin.attempts:
        attempts = origin.attempts
    facts = (
        (TOPIC, origin.topic),
        (PARTITION, origin.partition),
        (OFFSET, origin.offset),
        (TIMESTAMP, origin.timestamp),
        (GROUP, group),
        (REASON, reason),
        (ATTEMPTS, attempts),
        (NOT_BEFORE, not_before),
    )
    kept = [header for header in record.headers if not header[0].startswith(PREFIX)]
    return kept + [(name, str(fact).encode()) for name, fact in facts if fact is not None]
