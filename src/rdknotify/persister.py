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
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from rdknotify import metrics
from rdknotify import options as option_table
from rdknotify.consumer import Batch
from rdknotify.deadletter import DeadLetterFile, DeadLetterSink, count_from_zero, dead_letters
from rdknotify.errors import ClosedError, ConfigError, KafkaError
from rdknotify.logged import error_name, tell
from rdknotify.member import Member
from rdknotify.retry import Republisher
from rdknotify.service import STEP_WAIT, Service
from rdknotify.shapes import Partition, Position
from rdknotify.sinks import OffsetsBehind, Sink, SinkError, Span, TopicReplaced
from rdknotify.sinks.schema import NOTIFICATION, Schema
from rdknotify.storing import COUNTED, Aside, InHand, PersisterCounts, Storer, Storing, done
from rdknotify.topics import TopicPartition
from rdknotify.tracing import Tracing
from rdknotify.url import TransportURL

__all__ = ["Persister", "PersisterCounts"]

log = logging.getLogger(__name__)

MAX_BUFFERED_BYTES = 32 * 1024 * 1024
"""Rows in hand that hold this much are stored at once, whatever ``batch_size`` says: bounds memory."""

FIRST_DELAY, LONGEST_DELAY = 0.2, 10.0
"""Seconds between two tries of a database that fails: doubled each time, with jitter."""

DEAD_LETTER_TIMEOUT = 10.0
"""Seconds until a dead letter that Kafka does not acknowledge is given up and tried again."""

MAX_POLL_INTERVAL = 300_000
"""librdkafka's default of ``max.poll.interval.ms``."""

PATIENCE = 5.0
"""Seconds that the database may take before the member pauses, which drops what was fetched, and polls."""

HOOK_TIME = 30.0
"""Seconds that a partition may take to come or to go, in which the group waits for us."""

TOPIC_ID_INTERVAL, TOPIC_ID_TIMEOUT = 1.0, 2.0
"""Seconds after which a store asks the cluster anew for the ids of its topics, and how long; ids cost it 1 or 2 ms."""

CLOSE_TIMEOUT = 2.0
"""Seconds that the end waits for a sink that does not answer."""

_EARLIEST = -2


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
        schema: what becomes of a record: ``NOTIFICATION``, ``METRIC``, ``RAW`` (all in :mod:`rdknotify.sinks`) or
            a :class:`~rdknotify.sinks.Schema` of your own.
        batch_size: rows in a transaction at the most.
        max_wait: seconds that a record waits for others at the most.
        dead_letter: a topic's name; a path (``os.PathLike``, or text with a slash) of a JSON lines file;
            True: a topic named after the source topic and the group; an object with ``send`` and ``close`` as
            :class:`~rdknotify.deadletter.DeadLetterSink`; None: log each one and skip it.
        give_up_after: seconds after which a failing database ends the persister with its error; None: never.
        stop_timeout: seconds that ``close()`` waits; a ``stop()`` tries to store what is in hand for half of
            it.
        tracing: called around each store, as :class:`rdknotify.otel.Tracing`; None: nothing is.

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
        tracing: Tracing | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        _check(topics, batch_size, max_wait)
        for_producer = option_table.for_role(options, "producer")
        option_table.resolve(url, "producer", for_producer, config)
        for_consumer = option_table.for_role(options, "consumer")
        settings = option_table.resolve(url, "consumer", for_consumer, config)
        values = settings.values
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
        metrics.register(self, metrics.Fields(self._counts, COUNTED, self.group))
        count_from_zero(self.group)
        self._storer = Storer(sink, self._dead_letters, self.group, self._counts, tracing)
        interval = float(settings.conf.get("max.poll.interval.ms", MAX_POLL_INTERVAL)) / 1000
        self._patience, self._hook_time = min(PATIENCE, interval / 4), min(HOOK_TIME, interval / 2)
        self._aside: Aside | None = None
        self._hand = InHand()
        self._storing: Storing | None = None
        self._held: dict[tuple[str, int], int | None] = {}
        """What the database holds of each partition that is ours, as far as we know."""
        self._stored: dict[TopicPartition, int] = {}
        """The same of all that have ever been ours: where we stopped."""
        self._unrestored: set[TopicPartition] = set()
        """Assigned while the database failed: nothing of these may be stored before their offsets are known."""
        self._unchecked: set[tuple[str, int]] = set()
        """Restored, and no record has come yet that would show whether the topic is still the same."""
        self._reached: dict[Partition, int] = {}
        """The offset after what was received or stored of each partition: a topic that goes back is another one."""
        self._topic_ids: dict[str, str] = {}
        self._asked: dict[str, float] = {}
        """When, for the id of each topic (monotonic)."""
        self._paused: set[TopicPartition] = set()
        self._consumer: Member | None = None
        self._opened = False

    @property
    def counts(self) -> PersisterCounts:
        """A copy of the counters; from any thread."""
        return replace(self._counts)

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        """The partitions that this member stores now; from any thread."""
        return frozenset(TopicPartition(*partition) for partition in tuple(self._held))

    @property
    def stored(self) -> dict[TopicPartition, int]:
        """The next offset that the database holds of each partition that is or was ours; from any thread."""
        return dict(self._stored)

    def lag(self, timeout: float = 5.0) -> dict[TopicPartition, int]:
        """As :meth:`Consumer.lag <rdknotify.Consumer.lag>`, of our partitions; empty unless running. From any thread.

        What is in hand and not stored yet is not in it.
        """
        consumer = self._consumer
        return consumer.lag(timeout) if consumer is not None and not consumer.closed else {}

    # -- one life, in the working thread ---------------------------------------------------------------------

    def _open(self) -> None:
        self._aside = Aside(f"{self._name} stores")
        self._aside.call(self._open_sink).result()
        self._consumer = Member(
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
        wait = min(STEP_WAIT, max(0.0, self._hand.since + self._max_wait - time.monotonic()))
        self._receive(self._batch_size - self._hand.size, wait)
        if self._unrestored or self._due():
            self._patiently(time.monotonic() + self._give_up_after)

    def _drain(self) -> None:
        self._patiently(time.monotonic() + min(self._give_up_after, self._stop_timeout / 2), draining=True)

    def _close(self) -> None:
        storing, self._storing = self._storing, None
        if left := self._hand.size + (storing.hand.size if storing else 0):
            text = "group %s: %d records in hand were not stored; they will be read again"
            tell(log, "not_stored", text, self.group, left, group=self.group, count=left)
        self._hand.clear()
        try:
            if self._consumer is not None:
                self._consumer.close()
        finally:
            assert self._aside is not None
            released = self._aside.call(self._release)
            self._aside.end()
            if done(released, min(CLOSE_TIMEOUT, self._stop_timeout / 2)):
                released.result()
            else:
                text = "group %s: the sink does not answer; it is closed when it does"
                tell(log, "close_failed", text, self.group, level=logging.WARNING, group=self.group)

    def _open_sink(self) -> None:
        self._sink.open(self._schema)
        self._opened = True

    def _release(self) -> None:
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
        positions = batch.positions()
        for topic, partition, offset, _ in positions:
            if (topic, partition) not in self._unrestored:
                if offset <= self._reached.get((topic, partition), 0):
                    raise _made_anew(topic, partition, offset - 1, self._reached[topic, partition])
                self._reached[topic, partition] = offset
        self._hand.add(batch, positions, *self._schema.rows(batch))
        self._hand.forget(self._unrestored)

    def _due(self) -> bool:
        hand = self._hand
        return bool(hand.positions) and (
            hand.size >= self._batch_size
            or hand.bytes >= MAX_BUFFERED_BYTES
            or time.monotonic() >= hand.since + self._max_wait
        )

    def _check_first_offsets(self, batch: Batch) -> None:
        for topic, partition, offset in batch.origins():
            if (topic, partition) not in self._unchecked:
                continue
            self._unchecked.discard((topic, partition))
            held = self._held.get((topic, partition)) or 0
            if offset > held:
                text = (
                    "%s-%d begins at offset %d, not at %d which the database holds: what was between is no longer on "
                    "the log (or was never a record)"
                )
                where: dict[str, Any] = {"group": self.group, "topic": topic, "partition": partition, "offset": offset}
                tell(log, "records_missing", text, topic, partition, offset, held, **where)
            elif offset < held:
                raise _made_anew(topic, partition, offset, held)

    # -- hooks of the consumer, inside its poll: nothing polls meanwhile, so they end in time ---------------------

    def _on_assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int] | None:
        try:
            answer = self._ask_held(partitions)
            if not done(answer, self._hook_time):
                raise _no_answer(self._hook_time)
            return self._restored(partitions, answer.result())
        except Exception as error:
            self._tell("store_retried", _text(error), error)
            self._unrestored.update(partitions)
            return None

    def _on_revoked(self, partitions: Sequence[TopicPartition], lost: bool) -> None:
        until = time.monotonic() + self._hook_time
        try:
            while not lost and self._concerned(partitions):
                self._flush(until, polling=False)
        except Exception as error:
            self._tell("not_stored", f"records are left to the next member: {_text(error)}", error)
        if self._storing is not None:
            self._storing.gone.update(partitions)
        self._hand.forget(partitions)
        self._unrestored.difference_update(partitions)
        self._unchecked.difference_update(partitions)
        self._paused.difference_update(partitions)
        for partition in partitions:
            self._held.pop(partition, None)
            self._reached.pop(partition, None)

    def _concerned(self, partitions: Sequence[TopicPartition]) -> bool:
        under_way = self._storing is not None and self._storing.concerns(partitions)
        return under_way or not self._hand.positions.keys().isdisjoint(partitions)

    # -- where to begin --------------------------------------------------------------------------------------

    def _ask_held(self, partitions: Collection[TopicPartition]) -> Future[Mapping[TopicPartition, int]]:
        assert self._aside is not None
        return self._aside.call(self._sink.restore, self.group, list(partitions))

    def _restored(
        self, partitions: Collection[TopicPartition], held: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Where to begin: at what the database holds; where that is nothing, at the option ``start``."""
        for partition in partitions:
            self._held[partition] = held.get(partition)
            self._reached[partition] = held.get(partition, 0)
        self._stored.update(held)
        begin = {partition: held[partition] for partition in partitions if partition in held}
        self._unchecked.update(begin)
        if self._start == "earliest":
            # An empty database has stored nothing, whatever offsets the group has committed for another one.
            begin |= {partition: _EARLIEST for partition in partitions if partition not in held}
        return begin

    def _restore_late(self, until: float, until_stopped: bool) -> None:
        if not self._unrestored:
            return
        assert self._consumer is not None
        asked = list(self._unrestored)
        answer = self._ask_held(asked)
        if not self._await(answer, until, until_stopped):
            return
        late = [partition for partition in asked if partition in self._unrestored]  # others may have gone meanwhile
        begin = self._restored(late, answer.result())
        missing = [partition for partition in late if partition not in begin]
        if missing:  # start="latest": the consumer has committed where that is
            begin |= {key: offset for key, offset in self._consumer.committed(missing).items() if offset is not None}
        for partition in late:
            self._consumer.seek(*partition, begin.get(partition, _EARLIEST))
        self._unrestored.difference_update(late)

    # -- storing ---------------------------------------------------------------------------------------------

    def _patiently(self, deadline: float, *, draining: bool = False) -> None:
        """Store what is in hand, trying again until ``deadline`` (monotonic) or, unless draining, until ``stop()``."""
        assert self._consumer is not None
        delay = FIRST_DELAY
        until = deadline if draining else math.inf  # a call that goes on is no failure
        while not self.stopping or draining:
            try:
                self._restore_late(until, not draining)
                self._flush(until, until_stopped=not draining)
            except (ConfigError, ClosedError, TopicReplaced):
                raise
            except Exception as error:
                self._counts.retries += 1
                if time.monotonic() + delay > deadline:
                    raise
                text = f"trying again in about {delay:.1f} s: {_text(error)}"
                self._tell("store_retried", text, error, delay=delay)
                self._hold(time.monotonic() + delay * random.uniform(0.5, 1.0), not draining)
                delay = min(2 * delay, LONGEST_DELAY)
                continue
            if not draining or not (self._storing or self._hand.positions):
                break
        if self._paused and not self.stopping:
            self._consumer.resume(list(self._paused))
            self._paused.clear()

    def _tell(self, event: str, text: str, error: Exception, **fields: Any) -> None:
        tell(log, event, "group %s: %s", self.group, text, group=self.group, error=error_name(error), **fields)

    def _await(self, answer: Future[Any], until: float, until_stopped: bool) -> bool:
        """Whether the answer came before a ``stop()``; raises SinkError where it did not come until then."""
        begun = time.monotonic()
        self._hold(until, until_stopped, answer)
        if not answer.done() and not (until_stopped and self.stopping):
            raise _no_answer(time.monotonic() - begun)
        return answer.done()

    def _hold(self, until: float, until_stopped: bool, answer: Future[Any] | None = None) -> None:
        """Wait as a member of the group, paused, but polling: until then, or for an answer that may come sooner."""
        assert self._consumer is not None
        patient = time.monotonic() + self._patience
        while (left := until - time.monotonic()) > 0 and not (until_stopped and self.stopping):
            if answer and done(answer, min(STEP_WAIT, left)):
                break
            if answer and time.monotonic() < patient:
                continue
            running = set(self._consumer.assignment()) - self._paused
            if running:
                self._consumer.pause(list(running))
                self._paused |= running
            self._receive(1, 0.0 if answer else min(STEP_WAIT, left))

    def _flush(self, until: float, *, until_stopped: bool = False, polling: bool = True) -> None:
        """Store what is in hand, or end the store that is under way; then Kafka's offsets, for who watches the lag."""
        if self._storing is None:
            if not self._hand.positions:
                return
            self._begin_store()
        storing = self._storing
        assert storing is not None
        if polling:
            if not self._await(storing.answer, until, until_stopped):
                return
        elif not done(storing.answer, until - time.monotonic()):
            raise _no_answer(self._hook_time)
        if storing is self._storing:  # or else a hook has done so, inside a poll
            self._end_store(storing)

    def _begin_store(self) -> None:
        assert self._aside is not None
        self._ask_topic_ids({topic for topic, _ in self._hand.positions})
        hand, self._hand = self._hand, InHand()
        spans = {
            TopicPartition(*key): Span(self._held.get(key), position[2], self._topic_ids.get(key[0]))
            for key, position in hand.positions.items()
        }
        self._storing = Storing(hand, self._aside.call(self._storer.store, hand, spans))

    def _ask_topic_ids(self, topics: Collection[str]) -> None:
        """After their records came: were they another topic's, of the same name, that one is told of now."""
        assert self._consumer is not None
        now = time.monotonic()
        due = [topic for topic in topics if now - self._asked.get(topic, -math.inf) >= TOPIC_ID_INTERVAL]
        if due:
            self._asked.update(dict.fromkeys(due, now))
            try:
                self._topic_ids |= self._consumer.topic_ids(due, min(TOPIC_ID_TIMEOUT, self._patience))
            except KafkaError as error:
                log.info("group %s: the ids of the topics are not known: %s", self.group, error)

    def _end_store(self, storing: Storing) -> None:
        """Take note of what was stored; what was not is in hand again, and what kept it from being stored raised."""
        self._storing = None
        try:
            storing.answer.result()
        except Exception as error:
            self._take_back(storing)
            if isinstance(error, OffsetsBehind):
                self._hand.forget(error.partitions)
                self._unrestored.update(partition for partition in error.partitions if partition in self._held)
            raise
        kept = [position for key, position in storing.hand.positions.items() if key not in storing.gone]
        self._held.update((position[:2], position[2]) for position in kept)
        self._stored.update((TopicPartition(*position[:2]), position[2]) for position in kept)
        self._commit(kept)

    def _take_back(self, storing: Storing) -> None:
        later, self._hand = self._hand, storing.hand
        self._hand.forget(storing.gone)
        self._hand.extend(later)

    def _commit(self, positions: list[Position]) -> None:
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
    if isinstance(where, os.PathLike) or (isinstance(where, str) and "/" in where):
        return DeadLetterFile(where)
    if where is None or isinstance(where, (str, bool)):
        return dead_letters(where, make_producer)
    if hasattr(where, "send") and hasattr(where, "close"):
        sink: DeadLetterSink = where
        return sink
    raise ConfigError(f"dead_letter={where!r}: give a topic's name, a path, True or a DeadLetterSink")


def _made_anew(topic: str, partition: int, offset: int, held: int) -> TopicReplaced:
    return TopicReplaced(
        f"{topic}-{partition} goes on at offset {offset}, but {held} was reached: the topic was deleted and made anew, "
        "or has lost records. Its new records would be taken for the old ones: give another table, or delete the rows "
        f"and offsets of {topic} from this one"
    )


def _no_answer(seconds: float) -> SinkError:
    return SinkError(f"no answer from the sink or the dead letters for {seconds:.1f} s: see what the database does")


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, SinkError) else f"{type(error).__name__}: {error}"
