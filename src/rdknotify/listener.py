"""Get notifications to endpoints: take what arrived, hand it out, settle it.

When an offset is committed decides what a crash means, and is all that the two modes of ``settle`` differ
in: ``"before"`` commits what it takes and then hands it out; ``"after"`` hands it out, sees to it that what
is not done with is kept elsewhere (retry topic, dead letter topic), and then commits.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from rdknotify import service
from rdknotify._rdknotify import Record
from rdknotify.dispatch import Dispatcher, NotificationResult
from rdknotify.envelope import Notification, decode
from rdknotify.errors import ConfigError, EnvelopeError
from rdknotify.handout import Collector
from rdknotify.intake import Counts, Intake, positions
from rdknotify.logged import error_name, place, tell
from rdknotify.options import for_role, resolve
from rdknotify.provenance import Origin
from rdknotify.share_intake import ShareIntake
from rdknotify.topics import notification_topic
from rdknotify.tracing import Tracing
from rdknotify.url import TransportURL

__all__ = ["Counts", "Listener"]

log = logging.getLogger(__name__)

REST_AFTER = 1.0
"""Seconds of handing out after which the listener shows itself to its group, and settles what is done."""

_Read = tuple[Record, "Notification | EnvelopeError"]


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

    ``settle="share"``: the pool is a share group (Kafka 4.2 and later), which **librdkafka calls a preview**: each
    notification goes to any member, in no order, and is accepted when its endpoints are done with it. ``REQUEUE``, or
    an exception, hands it out again at once; after ``max_deliveries`` it is a dead letter. What takes longer than the
    option ``lock_duration`` is handed out again meanwhile: see :class:`~rdknotify.ShareConsumer`.

    Between two calls it takes part in its group at least once a second, however long all that was polled takes. One
    call that takes longer than librdkafka's ``max.poll.interval.ms`` (5 minutes) costs it its partitions, with a
    warning: the next owner goes on at what is committed, this listener joins again when the call is over.

    ``run()``, ``start()``, ``stop()``, ``wait()``, ``close()``: see :class:`~rdknotify.service.Service`.
    Options: those of a listener, of a consumer, and of the producer of retries and dead letters.

    Args:
        url: the transport URL, or a :class:`~rdknotify.TransportURL`; its virtual host is part of the
            topics' names.
        topics: notification topics, without priority and virtual host.
        endpoints: objects as above.
        pool: name of the consumer group; None: the option ``consumer_group``.
        batch_size: notifications that a batch endpoint gets at most (default: the option
            ``max_poll_records``).
        batch_timeout: seconds to wait for a batch to fill; None: hand out what is there.
        max_deliveries: how often a record is handed out before it becomes a dead letter (default: 5).
        retry_delay: seconds until a requeued record is handed out again (default: 5; none with ``settle="share"``).
        dead_letter: a topic; True: one named after the source topic and the group; False: dead letters are
            logged and skipped. None: the option ``dead_letter_topic``, or else False for ``settle="before"`` only.
        stop_timeout: seconds that ``close()`` and interpreter exit wait for endpoints to end (default: 30).
        tracing: called around endpoints, as :class:`rdknotify.otel.Tracing`; None: nothing is.

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
        settle: str | None = None,
        batch_size: int | None = None,
        batch_timeout: float | None = None,
        max_deliveries: int | None = None,
        retry_delay: float | None = None,
        dead_letter: str | bool | None = None,
        stop_timeout: float | None = None,
        tracing: Tracing | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        _check(topics, batch_size, batch_timeout)
        named = {
            "settle": settle,
            "max_deliveries": max_deliveries,
            "retry_delay": retry_delay,
            "stop_timeout": stop_timeout,
        }
        options |= {name: value for name, value in named.items() if value is not None}
        self._batch = batch_size is not None or batch_timeout is not None
        self._dispatcher = Dispatcher(endpoints, batch=self._batch)
        self._intake = _intake_class(url, options)(
            url,
            _subscription(topics, self._dispatcher.priorities, TransportURL.parse(url).virtual_host),
            group=pool,
            dead_letter=dead_letter,
            config=config,
            options=options,
            on_revoked=self._on_revoked,
        )
        super().__init__(f"listener {self.group}", self._intake.stop_timeout)
        self._settle_after = self._intake.settle_after
        size = (batch_size or self._intake.max_records) if self._batch else None
        self._collector: Collector[Record] = Collector(size, batch_timeout or 0.0)
        self._unsettled: dict[tuple[str, int], int] = {}
        """Next offsets after what was handed out and could not be committed yet."""
        self._gone: set[tuple[str, int]] = set()
        """Partitions that were taken away while their records were handed out."""
        self._said_refused = False
        self._tracing = tracing

    @property
    def group(self) -> str:
        """The consumer group: the pool, or else the option ``consumer_group``."""
        return self._intake.group

    @property
    def counts(self) -> Counts:
        """What was done since the start."""
        return self._intake.counts

    # -- one life, in the working thread -------------------------------------------------------------------

    def _open(self) -> None:
        self._intake.open()

    def _step(self) -> None:
        if not self._settle({}):
            # In case we are killed now: not more than this may be seen again.
            self._collector.add(self._intake.rest(service.STEP_WAIT), time.monotonic())
            return
        wait = self._collector.wait(service.STEP_WAIT, time.monotonic())
        # A rebalance inside takes records of the collector away, so that what comes out is added after it.
        arrived = self._intake.receive(self._collector.room(self._intake.max_records), wait)
        self._collector.add(arrived, time.monotonic())
        self._hand_out(self._collector.take(time.monotonic()))

    def _drain(self) -> None:
        # What is only to be committed later may as well go to the next owner.
        self._settle({})
        while not self._settle_after and self._hand_out(self._collector.take(math.inf)):
            pass

    def _close(self) -> None:
        self._intake.close()

    def _on_revoked(self, partitions: set[tuple[str, int]], lost: bool) -> None:
        self._collector.forget(partitions)
        self._gone |= partitions
        if not lost:
            self._settle({})
        for partition in partitions:
            self._unsettled.pop(partition, None)

    # -- handing out ---------------------------------------------------------------------------------------

    def _hand_out(self, records: list[Record]) -> bool:
        """Hand out and settle; false if there was nothing, or it could not be committed before and waits."""
        if not records:
            return False
        read: list[_Read] = []
        if self._settle_after:
            read += map(_read, records)
        elif not self._intake.commit(positions(records), meanwhile=lambda: read.extend(map(_read, records))):
            self._collector.put_back(records)
            return False
        while read:
            read = self._hand_out_some(read)
        return True

    def _hand_out_some(self, read: list[_Read]) -> list[_Read]:
        """Hand out and settle all, or what took ``REST_AFTER``; returns what is left to hand out."""
        outcome = self._in_one_call(read) if self._batch else self._one_by_one(read)
        # If this raises, nothing may be committed.
        if outcome.again:
            self._intake.requeue(outcome.again)
        self._intake.bury(outcome.poison, outcome.reasons)
        left = read[len(outcome.seen) :]
        if self._settle_after and not self._settle(positions(outcome.seen)):
            self._collector.put_back([record for record, _ in left])
            return []
        if not left or (self._settle_after and self.stopping):
            return []  # what is not committed goes to the next owner
        self._gone.clear()
        self._collector.add(self._intake.rest(0.0), time.monotonic())
        # What was committed before is handed out by us or by nobody.
        return [each for each in left if not self._settle_after or _partition(each[0]) not in self._gone]

    def _settle(self, offsets: dict[tuple[str, int], int]) -> bool:
        """Commit these, and what could not be committed before; false if that is not certain, and to be tried again."""
        self._unsettled |= offsets
        if self._intake.commit(self._unsettled):
            self._unsettled = {}
        return not self._unsettled

    def _one_by_one(self, read: list[_Read]) -> _Outcome:
        outcome = _Outcome()
        until = time.monotonic() + REST_AFTER
        for record, found in read:
            if (self._settle_after and self.stopping) or (outcome.seen and time.monotonic() > until):
                break
            outcome.seen.append(record)
            if isinstance(found, EnvelopeError):
                self._refuse(record, found, outcome)
            elif self._wanted_again(record, found):
                outcome.again.append(record)
        return outcome

    def _wanted_again(self, record: Record, notification: Notification) -> bool:
        try:
            if self._tracing is None:
                result = self._dispatcher.dispatch(notification)
            else:
                with self._tracing.processing([record], self.group):
                    result = self._dispatcher.dispatch(notification)
        except Exception as error:
            self._log_failure(error, [record], [notification])
            return self._settle_after
        return self._judge(result)

    def _in_one_call(self, read: list[_Read]) -> _Outcome:
        outcome = _Outcome(seen=[record for record, _ in read])
        records: list[Record] = []
        notifications: list[Notification] = []
        for record, found in read:
            if isinstance(found, EnvelopeError):
                self._refuse(record, found, outcome)
            else:
                records.append(record)
                notifications.append(found)
        try:
            with self._tracing.processing(records, self.group) if self._tracing and records else nullcontext():
                results = self._dispatcher.dispatch_batch(notifications) if notifications else []
        except Exception as error:
            self._log_failure(error, records, notifications)
            outcome.again = records if self._settle_after else []
        else:
            outcome.again = [record for record, result in zip(records, results, strict=True) if self._judge(result)]
        return outcome

    def _refuse(self, record: Record, error: EnvelopeError, outcome: _Outcome) -> None:
        self.counts.poison += 1
        outcome.poison.append(record)
        outcome.reasons.append(f"not a notification: {error}")

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
            text = (
                'group %s: an endpoint returned REQUEUE, which settle="before" cannot grant: the offset is committed '
                'already; use settle="after" (said once, counts.refused goes on)'
            )
            tell(log, "requeue_refused", text, self.group, group=self.group)
        return False

    def _log_failure(self, error: Exception, records: Sequence[Record], notifications: Sequence[Notification]) -> None:
        self.counts.failed += len(notifications)
        first = Origin.of(records[0])
        tell(
            log,
            "endpoint_failed",
            "group %s: an endpoint failed on %s (event_type %s, %s-%d offset %d); %s",
            self.group,
            ", ".join(notification.message_id for notification in notifications),
            notifications[0].event_type,
            first.topic,
            first.partition,
            first.offset,
            "it will be tried again" if self._settle_after else "it is committed and not tried again",
            exc_info=error,
            group=self.group,
            message_id=notifications[0].message_id,
            event_type=notifications[0].event_type,
            count=len(notifications),
            error=error_name(error),
            **place(first),
        )


def _intake_class(url: str | TransportURL, options: Mapping[str, Any]) -> type[Intake] | type[ShareIntake]:
    shared = resolve(url, "listener", for_role(options, "listener")).values["settle"] == "share"
    return ShareIntake if shared else Intake


def _partition(record: Record) -> tuple[str, int]:
    return record.topic, record.partition


def _read(record: Record) -> _Read:
    try:
        return record, decode(record.value or b"")
    except EnvelopeError as error:
        return record, error


def _subscription(names: Sequence[str], priorities: Iterable[str], vhost: str | None) -> list[str]:
    chosen = list(priorities)
    return [notification_topic(name, priority, vhost) for name in names for priority in chosen]


def _check(names: Sequence[str], batch_size: int | None, batch_timeout: float | None) -> None:
    if isinstance(names, str) or not names:
        raise ConfigError(f"topics={names!r}: give a list of at least one topic, as ['notifications']")
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"batch_size={batch_size!r}: must be at least 1 notification")
    if batch_timeout is not None and batch_timeout < 0:
        raise ConfigError(f"batch_timeout={batch_timeout!r}: must be 0 seconds or more")
