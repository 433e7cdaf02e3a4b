"""From Kafka into a database, nothing lost and nothing twice: rows and offsets in one transaction.

The database is the truth about what was stored. On assignment a partition is read from the offset that the
database holds; Kafka's committed offsets follow behind, so that lag can be watched.
"""

from __future__ import annotations

import logging
import math
import os
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rdknotify import options as option_table
from rdknotify._rdknotify import Batch, Record
from rdknotify.consumer import Consumer
from rdknotify.deadletter import DeadLetterFile, DeadLetterLog, DeadLetters, DeadLetterSink
from rdknotify.errors import ClosedError, ConfigError, KafkaError
from rdknotify.retry import Republisher
from rdknotify.service import STEP_WAIT, Service
from rdknotify.sinks import OffsetsBehind, RowRefused, Sink, SinkError, Span
from rdknotify.sinks.schema import NOTIFICATION, Poison, Row, Schema
from rdknotify.topics import TopicPartition
from rdknotify.url import TransportURL

__all__ = ["Persister", "PersisterCounts"]

log = logging.getLogger(__name__)

MAX_BUFFERED_BYTES = 32 * 1024 * 1024
"""Rows in hand that hold this much are stored at once, whatever ``batch_size`` says: bounds memory."""

FIRST_DELAY, LONGEST_DELAY = 0.2, 10.0
"""Seconds between two tries of a database that fails: doubled each time, with jitter."""

DEAD_LETTER_TIMEOUT = 10.0
"""Seconds until a dead letter that Kafka does not acknowledge is given up and tried again."""

_EARLIEST = -2


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


class _Buffer:
    """What was read and is not stored yet: rows and poison in order, and the position after them of each partition."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.batches: list[Batch] = []
        self.rows: list[Row] = []
        self.poison: list[Poison] = []
        self.positions: dict[tuple[str, int], tuple[str, int, int, int]] = {}
        self.bytes = 0
        self.since = math.inf

    @property
    def size(self) -> int:
        """Records in hand."""
        return len(self.rows) + len(self.poison)

    def add(self, batch: Batch, rows: list[Row], poison: list[Poison]) -> None:
        if not self.positions:
            self.since = time.monotonic()
        self.batches.append(batch)  # keeps the payloads: a row that the database refuses becomes a dead letter
        self.rows += rows
        self.poison += poison
        self.positions.update(((position[0], position[1]), position) for position in batch.positions())
        self.bytes += sum(len(field) for row in rows for field in row if isinstance(field, (str, bytes)))

    def forget(self, partitions: Collection[tuple[str, int]]) -> None:
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


class Persister(Service):
    """Stores every record of some topics in a database exactly once.

    Members of one group, in any number of processes, share the partitions. Records are gathered until
    ``batch_size`` are in hand or the first has waited ``max_wait`` seconds, then stored with their offsets in
    one transaction. While the database fails (:class:`~rdknotify.sinks.SinkError` or any other exception of
    the sink) the persister tries again, 0.2 to 10 seconds apart, keeps its place in the group and answers
    ``stop()``. A partition that is taken away is stored before it goes. A record that becomes no row goes to
    ``dead_letter``, confirmed before its offset is stored (after a crash in between it is there twice). A
    topic that was deleted and made anew is noticed and ends the persister: its offsets would be taken for the
    old ones.

    ``run()``, ``start()``, ``stop()``, ``wait()``, ``close()``: see :class:`~rdknotify.service.Service`.
    Options: those of a consumer, and those of a producer for the dead letters; ``start`` is for partitions of
    which the database holds no offset.

    Args:
        url: the transport URL, or a :class:`~rdknotify.TransportURL`.
        topics: full names of topics (``notifications.info``), or regular expressions that begin with ``^``.
        group: the consumer group; None: the option ``consumer_group``.
        sink: where to, as :class:`~rdknotify.SQLiteSink`; opened and closed by the persister.
        schema: what becomes of a record: :data:`NOTIFICATION`, :data:`RAW` or a :class:`Schema` of your own.
        batch_size: rows in a transaction at the most.
        max_wait: seconds that a record waits for others at the most.
        dead_letter: a topic's name; a path (``os.PathLike``, or text with a slash) of a JSON lines file;
            True: a topic named after the source topic and the group; an object with ``send`` and ``close`` as
            :class:`~rdknotify.deadletter.DeadLetterSink`; None: log each one and skip it.
        give_up_after: seconds after which a failing database ends the persister with its error; None: never.
        stop_timeout: seconds that ``close()`` waits; a ``stop()`` tries to store what is in hand for half of
            it.

    Raises:
        ConfigError: an option, topic or argument is wrong.
    """

    def __init__(
        self,
        url: str | TransportURL,
        topics: Sequence[str],
        *,
        sink: Sink,
        group: str | None = None,
        schema: Schema = NOTIFICATION,
        batch_size: int = 5000,
        max_wait: float = 1.0,
        dead_letter: str | os.PathLike[str] | bool | DeadLetterSink | None = None,
        give_up_after: float | None = None,
        stop_timeout: float = 30.0,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        _check(topics, batch_size, max_wait)
        for_producer = option_table.for_role(options, "producer")
        option_table.resolve(url, "producer", for_producer, config)
        for_consumer = option_table.for_role(options, "consumer")
        values = option_table.resolve(url, "consumer", for_consumer, config).values
        self.group: str = group or values["consumer_group"]
        super().__init__(f"persister {self.group}", stop_timeout)
        self._url, self._topics, self._config = url, list(topics), config
        self._consumer_options = for_consumer
        self._start: str = values["start"]
        self._sink, self._schema = sink, schema
        self._batch_size, self._max_wait = batch_size, max_wait
        self._give_up_after = math.inf if give_up_after is None else give_up_after
        self._dead_letters = _dead_letters(
            dead_letter,
            lambda: Republisher(url, config=config, **{"delivery_timeout": DEAD_LETTER_TIMEOUT, **for_producer}),
        )
        self._counts = PersisterCounts()
        self._buffer = _Buffer()
        self._held: dict[tuple[str, int], int | None] = {}
        """What the database holds of each partition that is ours, as far as we know."""
        self._unrestored: set[TopicPartition] = set()
        """Assigned while the database failed: nothing of these may be stored before their offsets are known."""
        self._unchecked: set[tuple[str, int]] = set()
        """Restored, and no record has come yet that would show whether the topic is still the same."""
        self._paused: set[TopicPartition] = set()
        self._consumer: Consumer | None = None
        self._opened = False

    @property
    def counts(self) -> PersisterCounts:
        """A copy of the counters; from any thread."""
        return replace(self._counts)

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        """The partitions that this member stores now; from any thread."""
        return frozenset(TopicPartition(*partition) for partition in tuple(self._held))

    # -- one life, in the working thread ---------------------------------------------------------------------

    def _open(self) -> None:
        self._sink.open(self._schema)
        self._opened = True
        self._consumer = Consumer(
            self._url,
            self._topics,
            self.group,
            commit="after",
            on_assigned=self._on_assigned,
            on_revoked=self._on_revoked,
            config=self._config,
            **self._consumer_options,
        )

    def _step(self) -> None:
        wait = min(STEP_WAIT, max(0.0, self._buffer.since + self._max_wait - time.monotonic()))
        self._receive(self._batch_size - self._buffer.size, wait)
        if self._unrestored or self._due():
            self._patiently(time.monotonic() + self._give_up_after)

    def _drain(self) -> None:
        self._patiently(time.monotonic() + min(self._give_up_after, self._stop_timeout / 2), draining=True)

    def _close(self) -> None:
        if self._buffer.size:
            log.warning(
                "group %s: %d records in hand were not stored; they will be read again", self.group, self._buffer.size
            )
        self._buffer.clear()
        try:
            if self._consumer is not None:
                self._consumer.close()
        finally:
            try:
                self._dead_letters.close()
            finally:
                if self._opened:
                    self._sink.close()

    # -- reading ---------------------------------------------------------------------------------------------

    def _receive(self, room: int, wait: float) -> None:
        assert self._consumer is not None
        batch = self._consumer.poll(max(1, room), wait)
        if not batch:
            return
        self._counts.received += len(batch)
        if self._unchecked:
            self._check_first_offsets(batch)
        self._buffer.add(batch, *self._schema.rows(batch))
        self._buffer.forget(self._unrestored)

    def _due(self) -> bool:
        buffer = self._buffer
        return bool(buffer.positions) and (
            buffer.size >= self._batch_size
            or buffer.bytes >= MAX_BUFFERED_BYTES
            or time.monotonic() >= buffer.since + self._max_wait
        )

    def _check_first_offsets(self, batch: Batch) -> None:
        for topic, partition, offset in batch.origins():
            if (topic, partition) not in self._unchecked:
                continue
            self._unchecked.discard((topic, partition))
            held = self._held.get((topic, partition)) or 0
            if offset > held:
                log.warning(
                    "%s-%d begins at offset %d, not at %d which the database holds: what was between is no longer "
                    "on the log (or was never a record)",
                    topic,
                    partition,
                    offset,
                    held,
                )
            elif offset < held:
                raise SinkError(
                    f"{topic}-{partition} begins at offset {offset}, but the database holds {held}: the topic was "
                    "deleted and made anew, or has lost records. Its new records would be taken for the old ones: "
                    f"give another table, or delete the rows and offsets of {topic} from this one"
                )

    def _on_assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int] | None:
        try:
            return self._restore(partitions)
        except Exception as error:
            log.warning("group %s: %s", self.group, _text(error))
            self._unrestored.update(partitions)
            return None

    def _restore(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Where to begin: at what the database holds; where that is nothing, at the option ``start``."""
        held = self._sink.restore(self.group, partitions)
        for partition in partitions:
            self._held[partition] = held.get(partition)
        self._unchecked.update(held)
        begin = dict(held)
        if self._start == "earliest":
            # An empty database has stored nothing, whatever offsets the group has committed for another one.
            begin |= {partition: _EARLIEST for partition in partitions if partition not in held}
        return begin

    def _on_revoked(self, partitions: Sequence[TopicPartition], lost: bool) -> None:
        if not lost and not self._buffer.positions.keys().isdisjoint(partitions):
            try:
                self._flush()
            except Exception as error:
                log.warning("group %s: records are left to the next member: %s", self.group, _text(error))
        self._buffer.forget(partitions)
        self._unrestored.difference_update(partitions)
        self._unchecked.difference_update(partitions)
        self._paused.difference_update(partitions)
        for partition in partitions:
            self._held.pop(partition, None)

    # -- storing ---------------------------------------------------------------------------------------------

    def _patiently(self, deadline: float, *, draining: bool = False) -> None:
        """Store what is in hand, trying again until ``deadline`` (monotonic) or, unless draining, until ``stop()``."""
        delay = FIRST_DELAY
        while True:
            try:
                self._restore_late()
                self._flush()
                break
            except (ConfigError, ClosedError):
                raise
            except Exception as error:
                self._counts.retries += 1
                if time.monotonic() + delay > deadline:
                    raise
                log.warning("group %s: trying again in about %.1f s: %s", self.group, delay, _text(error))
            self._hold(delay * random.uniform(0.5, 1.0), until_stopped=not draining)
            if self.stopping and not draining:
                return
            delay = min(2 * delay, LONGEST_DELAY)
        if self._paused:
            assert self._consumer is not None
            self._consumer.resume(list(self._paused))
            self._paused.clear()

    def _hold(self, seconds: float, *, until_stopped: bool) -> None:
        """Wait as a member of the group: paused, but polling."""
        assert self._consumer is not None
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not (until_stopped and self.stopping):
            running = set(self._consumer.assignment()) - self._paused
            if running:
                self._consumer.pause(list(running))
                self._paused |= running
            self._receive(1, min(STEP_WAIT, left))

    def _restore_late(self) -> None:
        if not self._unrestored:
            return
        assert self._consumer is not None
        begin = self._restore(self._unrestored)
        missing = [partition for partition in self._unrestored if partition not in begin]
        if missing:  # start="latest": the consumer has committed where that is
            begin |= {key: offset for key, offset in self._consumer.committed(missing).items() if offset is not None}
        for partition in self._unrestored:
            self._consumer.seek(*partition, begin.get(partition, _EARLIEST))
        self._unrestored.clear()

    def _flush(self) -> None:
        """Dead letters, then rows and offsets in one transaction, then Kafka's offsets for whoever watches the lag."""
        buffer = self._buffer
        if not buffer.positions:
            return
        if buffer.poison:
            letters = [entry.record for entry in buffer.poison]
            self._dead_letters.send(letters, [entry.reason for entry in buffer.poison], self.group)
            self._counts.poison += len(buffer.poison)
            buffer.poison = []
        spans = {
            TopicPartition(*key): Span(self._held.get(key), position[2]) for key, position in buffer.positions.items()
        }
        try:
            new = self._sink.store(self.group, buffer.rows, spans)
        except RowRefused:
            if not buffer.rows:
                raise
            buffer.poison = self._sift(buffer.rows)
            buffer.rows = []
            self._flush()
            return
        except OffsetsBehind as error:
            buffer.forget(error.partitions)
            self._unrestored.update(error.partitions)
            raise
        self._count(new, len(buffer.rows))
        self._held.update((key, span.next) for key, span in spans.items())
        positions = list(buffer.positions.values())
        buffer.clear()
        self._commit(positions)

    def _sift(self, rows: list[Row]) -> list[Poison]:
        """Store the rows that the database takes, in ever smaller parts; returns the others.

        The offsets wait: until they are stored, a crash only means that the rows are read, and left out, once more.
        """
        try:
            self._count(self._sink.store(self.group, rows, {}), len(rows))
            return []
        except RowRefused as error:
            if len(rows) == 1:
                return [Poison(self._buffer.record(rows[0]), str(error))]
        half = len(rows) // 2
        return self._sift(rows[:half]) + self._sift(rows[half:])

    def _count(self, new: int, total: int) -> None:
        self._counts.commits += 1
        self._counts.stored += new
        self._counts.duplicates += total - new

    def _commit(self, positions: list[tuple[str, int, int, int]]) -> None:
        assert self._consumer is not None
        try:
            # Only the last commit is waited for: until then the database is what counts.
            self._consumer.commit(positions, wait=self.stopping)
        except KafkaError as error:
            log.info("group %s: stored, but Kafka's own offsets lag behind: %s", self.group, error)


def _check(topics: Sequence[str], batch_size: int, max_wait: float) -> None:
    if isinstance(topics, str) or not topics:
        raise ConfigError(f"topics={topics!r}: give a list of at least one topic, as ['notifications.info']")
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size!r}: must be at least 1 record")
    if max_wait < 0:
        raise ConfigError(f"max_wait={max_wait!r}: must be 0 seconds or more")


def _dead_letters(where: Any, make_producer: Callable[[], Republisher]) -> DeadLetterSink:
    if where is None or where is False:
        return DeadLetterLog()
    if where is True:
        return DeadLetters(make_producer)
    if isinstance(where, os.PathLike) or (isinstance(where, str) and "/" in where):
        return DeadLetterFile(where)
    if isinstance(where, str):
        return DeadLetters(make_producer, where)
    if hasattr(where, "send") and hasattr(where, "close"):
        sink: DeadLetterSink = where
        return sink
    raise ConfigError(f"dead_letter={where!r}: give a topic's name, a path, True or a DeadLetterSink")


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, SinkError) else f"{type(error).__name__}: {error}"
