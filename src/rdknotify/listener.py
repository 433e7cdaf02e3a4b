"""Get notifications to endpoints: take what arrived, hand it out, settle it.

When an offset is committed decides what a crash means, and is all that the two modes of ``settle`` differ
in: ``"before"`` commits what it takes and then hands it out; ``"after"`` hands it out, sees to it that what
is not done with is kept elsewhere (retry topic, dead letter topic), and then commits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from rdknotify import service
from rdknotify._rdknotify import Record
from rdknotify.consumer import Consumer
from rdknotify.deadletter import DeadLetterLog, DeadLetters, DeadLetterSink
from rdknotify.dispatch import Dispatcher, NotificationResult
from rdknotify.envelope import Notification, decode
from rdknotify.errors import CommitFailed, ConfigError, EnvelopeError, KafkaError, Timeout
from rdknotify.options import for_role, resolve
from rdknotify.provenance import Origin
from rdknotify.retry import DelayLine, Republisher, Retries, create_absent
from rdknotify.topics import TopicPartition, check_name, notification_topic
from rdknotify.url import TransportURL

__all__ = ["Counts", "Listener"]

log = logging.getLogger(__name__)

SETTLE = ("before", "after")


@dataclass(slots=True)
class Counts:
    """What a listener has done since it was started; records are notifications, well-formed or not.

    Attributes:
        received: records taken from the group's topics, retries included.
        handled: notifications whose endpoints were done with them; one that no endpoint wants is.
        failed: notifications on which an endpoint raised.
        requeued: records published to a retry topic.
        refused: notifications that an endpoint wanted again where that cannot be (``settle="before"``).
        poison: records that are not notifications.
        dead_lettered: records kept as dead letters: poison, or handed out ``max_deliveries`` times.
        skipped: the same, where no dead letter topic was set: logged and let go.
    """

    received: int = 0
    handled: int = 0
    failed: int = 0
    requeued: int = 0
    refused: int = 0
    poison: int = 0
    dead_lettered: int = 0
    skipped: int = 0


@dataclass(slots=True)
class _Outcome:
    """What became of records that were handed out.

    ``seen`` are all of them, in order; the others need more than a commit. ``reasons`` has one for each of
    ``poison``.
    """

    seen: list[Record] = field(default_factory=list)
    again: list[Record] = field(default_factory=list)
    poison: list[Record] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


class Collector:
    """Gathers records for batch endpoints.

    They are ready when ``size`` are there, or the first has waited ``patience`` seconds; without a size, at
    once.
    """

    def __init__(self, size: int | None, patience: float) -> None:
        self._size = size
        self._patience = patience
        self._records: list[Record] = []
        self._since = 0.0

    def room(self, most: int) -> int:
        """How many more records to ask for, ``most`` at the most."""
        return most if self._size is None else max(1, min(most, self._size - len(self._records)))

    def wait(self, longest: float, now: float) -> float:
        """How long to wait for more, ``longest`` at the most."""
        return max(0.0, min(longest, self._since + self._patience - now)) if self._records else longest

    def add(self, records: Sequence[Record], now: float) -> None:
        if records and not self._records:
            self._since = now
        self._records.extend(records)

    def take(self, now: float, *, all_of_it: bool = False) -> list[Record]:
        """The next records to hand out, at most ``size``; none while there is something to wait for."""
        size = self._size or len(self._records)
        if len(self._records) < size and not all_of_it and now < self._since + self._patience:
            return []
        taken, self._records = self._records[:size], self._records[size:]
        return taken

    def forget(self, partitions: Collection[tuple[str, int]]) -> None:
        """Drop the records of partitions that were taken away."""
        self._records = [record for record in self._records if (record.topic, record.partition) not in partitions]


class Listener(service.Service):
    """Hands notifications to endpoints, in the order of their partitions, one call at a time.

    An endpoint has a method for each priority it wants (``def info(self, ctxt, publisher_id, event_type,
    payload, metadata)``), or with ``batch_size`` or ``batch_timeout`` one that takes a list (``def
    info(self, notifications)``), and may have a ``filter_rule``. More listeners with the same pool share
    the work; each pool gets every notification.

    ``settle="before"`` (default): committed, then handed out. After a crash nothing is seen twice; what was
    in hand is lost. An endpoint's exception is logged with the notification's id and that is all;
    ``REQUEUE`` cannot be granted: it is counted as ``refused``, and logged once.

    ``settle="after"``: handed out, then committed. After a crash nothing is lost; what was in hand is seen
    again. ``REQUEUE`` publishes the record to a retry topic of the group, to be handed out again after
    ``retry_delay``, without holding up the others; after ``max_deliveries`` it is a dead letter. An
    exception is logged and treated as ``REQUEUE``. Publishing a retry or dead letter is confirmed before
    the commit; if Kafka refuses it, the listener ends with that error and nothing is committed.

    While endpoints work nothing is polled: if what one poll took (``max_poll_records``) keeps them longer
    than librdkafka's ``max.poll.interval.ms`` (5 minutes), the group takes its partitions away.

    ``run()``, ``start()``, ``stop()``, ``wait()``, ``close()``: see :class:`~rdknotify.service.Service`.
    Options: those of a consumer, and of the producer of retries and dead letters.

    Args:
        url: the transport URL, or a :class:`~rdknotify.TransportURL`; its virtual host is part of the
            topics' names.
        topics: notification topics, without priority and virtual host.
        endpoints: objects as above.
        pool: name of the consumer group; None: the option ``consumer_group``.
        batch_size: notifications that a batch endpoint gets at most (default: the option
            ``max_poll_records``).
        batch_timeout: seconds to wait for a batch to fill; None: hand out what is there.
        max_deliveries: how often a record is handed out before it becomes a dead letter.
        retry_delay: seconds until a requeued record is handed out again.
        dead_letter: a topic; True: one named after the source topic and the group; False: dead letters are
            logged and skipped. None: True for ``settle="after"``, else False.
        stop_timeout: seconds that ``close()`` and interpreter exit wait for endpoints to end.

    Raises:
        ConfigError: an option, topic, endpoint or argument is wrong.
    """

    def __init__(
        self,
        url: str | TransportURL,
        topics: Sequence[str],
        endpoints: Sequence[object],
        *,
        pool: str | None = None,
        settle: str = "before",
        batch_size: int | None = None,
        batch_timeout: float | None = None,
        max_deliveries: int = 5,
        retry_delay: float = 5.0,
        dead_letter: str | bool | None = None,
        stop_timeout: float = 30.0,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        _check(topics, settle, batch_size, batch_timeout, max_deliveries, retry_delay, dead_letter)
        self._url = url
        self._producer_options = {"config": config, **for_role(options, "producer")}
        self._consumer_options = {"config": config, **for_role(options, "consumer")}
        # Checked now, though the clients are made later.
        resolve(url, "producer", for_role(options, "producer"), config)
        values = resolve(url, "consumer", for_role(options, "consumer"), config).values
        self.group: str = pool or values["consumer_group"]
        super().__init__(f"listener {self.group}", stop_timeout)
        self._max_records: int = values["max_poll_records"]
        self._batch = batch_size is not None or batch_timeout is not None
        self._dispatcher = Dispatcher(endpoints, batch=self._batch)
        self._topics = _subscription(topics, self._dispatcher.priorities, TransportURL.parse(url).virtual_host)
        self._settle_after = settle == "after"
        self._dead_letter_topic = self._settle_after if dead_letter is None else dead_letter
        self._retries = Retries(self._topics if self._settle_after else (), self.group, retry_delay, max_deliveries)
        self._delays: DelayLine[Record] = DelayLine(self._retries.topics, retry_delay)
        self._collector = Collector((batch_size or self._max_records) if self._batch else None, batch_timeout or 0.0)
        self.counts = Counts()
        self._resources = ExitStack()
        self._said_refused = False

    # -- one life, in the working thread -------------------------------------------------------------------

    def _open(self) -> None:
        self._dead_letters: DeadLetterSink = DeadLetterLog()
        if self._settle_after or self._dead_letter_topic:
            self._producer = Republisher(self._url, **self._producer_options)
            self._resources.callback(self._producer.close)
        if self._dead_letter_topic:
            named = None if self._dead_letter_topic is True else self._dead_letter_topic
            self._dead_letters = DeadLetters(self._producer, named)
        if self._settle_after:
            create_absent(self._producer, self._retries.topics)
        self._consumer = Consumer(
            self._url,
            [*self._topics, *self._retries.topics],
            self.group,
            commit="after" if self._settle_after else "before",
            on_revoked=self._on_revoked,
            **self._consumer_options,
        )
        self._resources.callback(self._consumer.close)

    def _step(self) -> None:
        self._receive()
        self._hand_out(self._collector.take(time.monotonic()))

    def _drain(self) -> None:
        # What is only to be committed later may as well go to the next owner.
        while not self._settle_after and (records := self._collector.take(0.0, all_of_it=True)):
            self._hand_out(records)

    def _close(self) -> None:
        self._resources.close()

    # -- taking --------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        # Released before the poll and kept where a rebalance inside the poll can take them away.
        self._collector.add(self._release(), time.monotonic())
        arrived = self._poll(self._collector.wait(self._idle_wait(), time.monotonic()))
        self.counts.received += len(arrived)
        if self._retries.topics:
            arrived = self._hold(arrived)
        self._collector.add(arrived, time.monotonic())

    def _poll(self, wait: float) -> list[Record]:
        try:
            return list(self._consumer.poll(self._collector.room(self._max_records), wait))
        except KafkaError as error:
            if not _passes(error):
                raise
            log.warning("group %s: %s; trying again", self.group, error)
            time.sleep(service.STEP_WAIT)
            return []

    def _idle_wait(self) -> float:
        due = self._delays.next_due()
        return service.STEP_WAIT if due is None else max(0.0, min(service.STEP_WAIT, due / 1000 - time.time()))

    def _hold(self, records: list[Record]) -> list[Record]:
        """Keep back the retries that are not due and pause their partitions; the others flow on."""
        before = self._delays.partitions
        now = round(time.time() * 1000)
        passed = [record for record in records if not self._delays.hold(record, now)]
        if held := self._delays.partitions - before:
            self._consumer.pause(_partitions(held))
        return passed

    def _release(self) -> list[Record]:
        before = self._delays.partitions
        released = self._delays.release(round(time.time() * 1000))
        if emptied := before - self._delays.partitions:
            self._consumer.resume(_partitions(emptied))
        return released

    def _on_revoked(self, partitions: Sequence[TopicPartition], lost: bool) -> None:
        taken = set(partitions)
        if paused := self._delays.partitions & taken:
            self._consumer.resume(_partitions(paused))
            self._delays.forget(paused)
        if self._settle_after:
            self._collector.forget(taken)

    # -- handing out ---------------------------------------------------------------------------------------

    def _hand_out(self, records: list[Record]) -> None:
        if not records:
            return
        outcome = self._in_one_call(records) if self._batch else self._one_by_one(records)
        self._keep(outcome)
        if self._settle_after:
            self._commit(outcome.seen)

    def _one_by_one(self, records: list[Record]) -> _Outcome:
        outcome = _Outcome()
        for record in records:
            if self._settle_after and self.stopping:
                break  # not committed: the next owner gets them
            outcome.seen.append(record)
            notification = self._decode(record, outcome)
            if notification is not None and self._wanted_again(record, notification):
                outcome.again.append(record)
        return outcome

    def _wanted_again(self, record: Record, notification: Notification) -> bool:
        try:
            result = self._dispatcher.dispatch(notification)
        except Exception as error:
            self._log_failure(error, [record], [notification])
            return self._settle_after
        return self._judge(result)

    def _in_one_call(self, records: list[Record]) -> _Outcome:
        outcome = _Outcome(seen=records)
        decoded = [(record, self._decode(record, outcome)) for record in records]
        pairs = [(record, notification) for record, notification in decoded if notification is not None]
        notifications = [notification for _, notification in pairs]
        try:
            results = self._dispatcher.dispatch_batch(notifications) if notifications else []
        except Exception as error:
            self._log_failure(error, [record for record, _ in pairs], notifications)
            outcome.again = [record for record, _ in pairs] if self._settle_after else []
        else:
            outcome.again = [record for (record, _), result in zip(pairs, results, strict=True) if self._judge(result)]
        return outcome

    def _decode(self, record: Record, outcome: _Outcome) -> Notification | None:
        try:
            return decode(record.value or b"")
        except EnvelopeError as error:
            self.counts.poison += 1
            outcome.poison.append(record)
            outcome.reasons.append(f"not a notification: {error}")
            return None

    def _judge(self, result: NotificationResult) -> bool:
        """Count an endpoint's answer; true if the record is to be seen again."""
        if result is not NotificationResult.REQUEUE:
            self.counts.handled += 1
            return False
        if self._settle_after:
            return True
        self.counts.refused += 1
        if not self._said_refused:
            self._said_refused = True
            log.warning(
                'group %s: an endpoint returned REQUEUE, which settle="before" cannot grant: the offset is '
                'committed already; use settle="after" (said once, counts.refused goes on)',
                self.group,
            )
        return False

    def _log_failure(self, error: Exception, records: Sequence[Record], notifications: Sequence[Notification]) -> None:
        self.counts.failed += len(notifications)
        first = Origin.of(records[0])
        log.error(
            "group %s: an endpoint failed on %s (event_type %s, %s-%d offset %d); %s",
            self.group,
            ", ".join(notification.message_id for notification in notifications),
            notifications[0].event_type,
            first.topic,
            first.partition,
            first.offset,
            "it will be tried again" if self._settle_after else "it is committed and not tried again",
            exc_info=error,
        )

    # -- settling ------------------------------------------------------------------------------------------

    def _keep(self, outcome: _Outcome) -> None:
        """Put what is not done with where it is safe; if this raises, nothing may be committed."""
        last = self._retries.max_deliveries
        spent = [record for record in outcome.again if self._retries.exhausted(record)]
        again = [record for record in outcome.again if not self._retries.exhausted(record)]
        oversized = self._retries.publish(again, self._producer, time.time()) if again else []
        self.counts.requeued += len(again) - len(oversized)
        self._bury(outcome.poison, outcome.reasons)
        self._bury(spent, f"handed out {last} times and still wanted again", attempts=last)
        self._bury(oversized, "wanted again, and too large for the retry topic")

    def _bury(self, records: list[Record], reason: str | list[str], attempts: int | None = None) -> None:
        if not records:
            return
        self._dead_letters.send(records, reason, self.group, attempts)
        if self._dead_letter_topic:
            self.counts.dead_lettered += len(records)
        else:
            self.counts.skipped += len(records)

    def _commit(self, seen: list[Record]) -> None:
        if not seen:
            return
        try:
            self._consumer.commit(
                {TopicPartition(record.topic, record.partition): record.offset + 1 for record in seen}
            )
        except KafkaError as error:
            if not _passes(error):
                raise
            log.warning("group %s: %d records may be seen again, here or elsewhere: %s", self.group, len(seen), error)


def _passes(error: KafkaError) -> bool:
    """Whether to go on: what was not committed is seen again, and the next commit covers it too."""
    return not error.fatal and (error.retriable or isinstance(error, (CommitFailed, Timeout)))


def _partitions(pairs: Iterable[tuple[str, int]]) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for topic, partition in pairs]


def _subscription(names: Sequence[str], priorities: Iterable[str], vhost: str | None) -> list[str]:
    chosen = list(priorities)
    return [notification_topic(name, priority, vhost) for name in names for priority in chosen]


def _check(
    names: Sequence[str],
    settle: str,
    batch_size: int | None,
    batch_timeout: float | None,
    max_deliveries: int,
    retry_delay: float,
    dead_letter: str | bool | None,
) -> None:
    if isinstance(names, str) or not names:
        raise ConfigError(f"topics={names!r}: give a list of at least one topic, as ['notifications']")
    if settle not in SETTLE:
        raise ConfigError(f"settle={settle!r}: must be one of {', '.join(map(repr, SETTLE))}")
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"batch_size={batch_size!r}: must be at least 1 notification")
    if batch_timeout is not None and batch_timeout < 0:
        raise ConfigError(f"batch_timeout={batch_timeout!r}: must be 0 seconds or more")
    if max_deliveries < 1:
        raise ConfigError(f"max_deliveries={max_deliveries!r}: must be at least 1")
    if retry_delay < 0:
        raise ConfigError(f"retry_delay={retry_delay!r}: must be 0 seconds or more")
    if isinstance(dead_letter, str):
        check_name(dead_letter, dead_letter=dead_letter)
