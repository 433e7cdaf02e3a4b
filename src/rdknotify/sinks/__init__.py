"""Where a persister writes: the protocol that every database behind :class:`rdknotify.Persister` follows.

A sink stores rows *and* the offsets they end at in one transaction, so that neither is ever there without the
other; on assignment the persister begins at the offset that the database holds, whatever Kafka says.
:class:`SQLiteSink <rdknotify.sinks.sqlite.SQLiteSink>` is one; to write another, give a class the four
methods of :class:`Sink`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from rdknotify.errors import RdNotifyError
from rdknotify.sinks.metric import METRIC
from rdknotify.sinks.schema import NOTIFICATION, RAW, Column, Schema
from rdknotify.topics import TopicPartition

__all__ = [
    "METRIC",
    "NOTIFICATION",
    "RAW",
    "Column",
    "OffsetsBehind",
    "RowRefused",
    "Schema",
    "Sink",
    "SinkError",
    "Span",
    "TopicReplaced",
]


class SinkError(RdNotifyError):
    """A database could not be opened, read or written; the text says which, why and what to do.

    The persister tries again later, as it does for every other exception of a sink; see the subclasses for
    what differs.
    """


class RowRefused(SinkError):
    """Nothing was stored because of a *value* in the rows: trying again cannot help.

    The persister then stores the rows in ever smaller parts until it has the ones to blame, which are dead
    letters.
    """


class OffsetsBehind(SinkError):
    """Nothing was stored: the database holds an older offset than this member has stored there before.

    So a database behaves that was restored from a backup or failed over to a replica that lagged. The
    persister reads the missing records again from the offset that the database now holds.
    """

    def __init__(self, partitions: Collection[TopicPartition], text: str) -> None:
        super().__init__(partitions, text)
        self.partitions = partitions
        self.text = text

    def __str__(self) -> str:
        return self.text


class TopicReplaced(SinkError):
    """Nothing was stored: what the database holds of a topic is of another one, of the same name.

    That one was deleted and made anew; its new records would be taken for the old ones. It ends the persister.
    """


class Span(NamedTuple):
    """The offsets of one partition that a ``store`` covers: from ``expected`` up to, not including, ``next``."""

    expected: int | None
    """The offset that the database must at least hold already; None: none, this is the partition's first store."""
    next: int
    """The offset to hold afterwards: after the last record, also one that became no row."""
    topic_id: str | None = None
    """The cluster's id of the topic, to be held too; None where it is not known."""


class Sink(Protocol):
    """A transactional database. Any exception but the ones above means: try the same call again later.

    Calls may block, but each must end by itself. A persister makes all of them in one thread, which is not the
    one that keeps its place in the group; the end of the process does not wait for it. One sink may be given
    to several persisters of a process; then it is opened and closed once by each, and called by each one's
    thread.
    """

    def open(self, schema: Schema) -> None:
        """Connect; create the tables for rows of this schema where they are missing, and for offsets."""

    def restore(self, group: str, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offsets held for this group, for those of the partitions that have one."""

    def store(self, group: str, rows: Sequence[tuple[Any, ...]], spans: Mapping[TopicPartition, Span]) -> int:
        """Add the rows and set the offsets to each span's ``next``, in ONE transaction; returns how many were new.

        A row is the schema's columns (:attr:`Schema.columns`, so the last three are topic, partition and
        offset). A row is left out if one with its message id (:attr:`Schema.message_id`) or with its topic,
        partition and offset is there.

        Offsets never go back. With a partition's held offset below ``expected`` nothing is stored and
        :class:`OffsetsBehind` is raised. A *higher* one is no error: a successor has stored records that this
        member, who lost the partition without knowing it yet, had read too; uniqueness leaves out the twins.
        With a partition's held ``topic_id`` other than the span's, where both are known, nothing is stored and
        :class:`TopicReplaced` is raised.
        """

    def close(self) -> None:
        """Disconnect; idempotent."""
