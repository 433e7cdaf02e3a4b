"""What a persister has in hand, and the thread that stores it beside the one that keeps its place in the group."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from rdknotify import metrics
from rdknotify._rdknotify import Batch, Record
from rdknotify.deadletter import DeadLetterSink, keep
from rdknotify.shapes import Partition, Position
from rdknotify.sinks import RowRefused, Sink, Span
from rdknotify.sinks.schema import Poison, Row
from rdknotify.topics import TopicPartition
from rdknotify.tracing import Tracing

__all__ = ["COUNTED", "Aside", "InHand", "PersisterCounts", "Storer", "Storing", "done"]

R = TypeVar("R")


@dataclass(slots=True)
class PersisterCounts:
    """What a persister has done since it was started.

    Attributes:
        received: records taken from Kafka.
        stored: rows that are new in the database.
        duplicates: rows left out because their message id, or topic, partition and offset, was there.
        poison: records that became no row and were sent to the dead letters (or logged, where none are set).
        commits: database transactions with rows or offsets.
        retries: tries of the database or the dead letters that failed.
    """

    received: int = 0
    stored: int = 0
    duplicates: int = 0
    poison: int = 0
    commits: int = 0
    retries: int = 0


COUNTED = {
    "stored": metrics.RECORDS_STORED,
    "duplicates": metrics.RECORDS_DUPLICATE,
    "retries": metrics.STORE_RETRIES,
}
"""What of it is collected."""


class InHand:
    """What was read and is not stored yet: rows and poison in order, and the position after them of each partition."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.batches: list[Batch] = []
        self.rows: list[Row] = []
        self.poison: list[Poison] = []
        self.positions: dict[Partition, Position] = {}
        self.bytes = 0
        self.since = math.inf

    @property
    def size(self) -> int:
        """Records in hand."""
        return len(self.rows) + len(self.poison)

    def add(self, batch: Batch, positions: Collection[Position], rows: list[Row], poison: list[Poison]) -> None:
        if not self.positions:
            self.since = time.monotonic()
        self.batches.append(batch)  # keeps the payloads: a row that the database refuses becomes a dead letter
        self.rows += rows
        self.poison += poison
        self.positions.update((position[:2], position) for position in positions)
        self.bytes += sum(len(field) for row in rows for field in row if isinstance(field, (str, bytes)))

    def extend(self, later: InHand) -> None:
        """Take over what was read after this."""
        self.batches += later.batches
        self.rows += later.rows
        self.poison += later.poison
        self.positions |= later.positions
        self.bytes += later.bytes
        self.since = min(self.since, later.since)

    def forget(self, partitions: Collection[Partition]) -> None:
        """Drop what came from these partitions: somebody reads it again from the offset that the database holds."""
        if self.positions.keys().isdisjoint(partitions):
            return
        gone = set(partitions)
        self.rows = [row for row in self.rows if row[-3:-1] not in gone]
        self.poison = [entry for entry in self.poison if (entry.record.topic, entry.record.partition) not in gone]
        self.positions = {key: position for key, position in self.positions.items() if key not in gone}
        if not self.positions:
            self.clear()

    def record(self, row: Row) -> Record:
        """The record that the row was made of."""
        return next(
            record
            for batch in self.batches
            for record, origin in zip(batch, batch.origins(), strict=True)
            if origin == row[-3:]
        )


class Aside:
    """Makes calls, one after the other, in a thread of its own. The end of the process does not wait for it."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def call(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        """The answer to come; returns at once."""
        answer: Future[R] = Future()
        self._calls.put((answer, partial(function, *arguments)))
        return answer

    def end(self) -> None:
        """The thread ends after the calls that were given."""
        self._calls.put(None)

    def _work(self) -> None:
        while (given := self._calls.get()) is not None:
            answer, function = given
            try:
                answer.set_result(function())
            except BaseException as error:
                answer.set_exception(error)
            del given, answer, function  # or records would be held until the next call


@dataclass(slots=True)
class Storing:
    """A store that is under way. What it has in hand is the other thread's until it is done."""

    hand: InHand
    answer: Future[None]
    gone: set[Partition] = field(default_factory=set)
    """Partitions that were taken away meanwhile: what is stored of them is right, what is not is the successor's."""

    def concerns(self, partitions: Collection[Partition]) -> bool:
        return not self.hand.positions.keys().isdisjoint(partitions)


def done(answer: Future[Any], seconds: float) -> bool:
    """Wait so long; whether the answer has come. Signals are answered meanwhile."""
    wait([answer], None if seconds == math.inf else max(0.0, seconds))
    return answer.done()


class Storer:
    """Stores what is in hand; tried again it goes on where it failed. Used by one thread."""

    def __init__(
        self,
        sink: Sink,
        dead_letters: DeadLetterSink,
        group: str,
        counts: PersisterCounts,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing
        self._sink = sink
        self._dead_letters = dead_letters
        self._group = group
        self._counts = counts

    def store(self, hand: InHand, spans: Mapping[TopicPartition, Span]) -> None:
        """Dead letters, then rows and offsets in one transaction."""
        if self._tracing is None:
            self._store(hand, spans)
        else:
            with self._tracing.processing(chain.from_iterable(hand.batches), self._group):
                self._store(hand, spans)

    def _store(self, hand: InHand, spans: Mapping[TopicPartition, Span]) -> None:
        if hand.poison:
            letters = [entry.record for entry in hand.poison]
            keep(self._dead_letters, letters, [entry.reason for entry in hand.poison], self._group)
            self._counts.poison += len(hand.poison)
            hand.poison = []
        try:
            new = self._transact(hand.rows, spans)
        except RowRefused:
            if not hand.rows:
                raise
            hand.poison = self._sift(hand, hand.rows)
            hand.rows = []
            self._store(hand, spans)
        else:
            self._count(new, len(hand.rows))

    def _sift(self, hand: InHand, rows: list[Row]) -> list[Poison]:
        """Store the rows that the database takes, in ever smaller parts; returns the others.

        The offsets wait: until they are stored, a crash only means that the rows are read, and left out, once more.
        """
        try:
            self._count(self._transact(rows, {}), len(rows))
            return []
        except RowRefused as error:
            if len(rows) == 1:
                return [Poison(hand.record(rows[0]), str(error))]
        half = len(rows) // 2
        return self._sift(hand, rows[:half]) + self._sift(hand, rows[half:])

    def _transact(self, rows: list[Row], spans: Mapping[TopicPartition, Span]) -> int:
        begun = time.monotonic()
        new = self._sink.store(self._group, rows, spans)
        metrics.observe(metrics.STORE_LATENCY, time.monotonic() - begun, self._group)
        return new

    def _count(self, new: int, total: int) -> None:
        self._counts.commits += 1
        self._counts.stored += new
        self._counts.duplicates += total - new
