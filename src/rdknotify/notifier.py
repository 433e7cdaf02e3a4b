"""Publish notifications: one at a time or in bulk, and account for every one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from rdknotify import topics as names
from rdknotify._rdknotify import compose
from rdknotify.client import Closing, deadline_after, remaining
from rdknotify.envelope import encode_new
from rdknotify.errors import ConfigError, QueueFull, Timeout
from rdknotify.ledger import Ledger, Undelivered
from rdknotify.outcomes import BatchReport, Failure, Outcome
from rdknotify.producer import Producer
from rdknotify.tracing import TracedProducer, Tracing
from rdknotify.url import TransportURL

__all__ = ["Delivery", "MergedDelivery", "Notifier", "Undelivered"]


class Delivery(Protocol):
    """What becomes of a bulk of notifications: :class:`rdknotify.Delivery`, or the same for several
    topics."""

    @property
    def total(self) -> int: ...
    def __len__(self) -> int: ...
    def done(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def result(self, timeout: float | None = None) -> BatchReport: ...
    def poll(self) -> BatchReport | None: ...


class MergedDelivery:
    """The same bulk sent to several topics; ``total`` and the indexes count notifications, not records.

    A notification is delivered once it is on every topic. One that certainly is on none is NOT_PERSISTED;
    one that is, or may be, on some of them is POSSIBLY_PERSISTED: sending it again may duplicate.
    """

    def __init__(self, parts: Sequence[Delivery]) -> None:
        self._parts = parts

    @property
    def total(self) -> int:
        return self._parts[0].total

    def __len__(self) -> int:
        return self.total

    def done(self) -> bool:
        return all(part.done() for part in self._parts)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every outcome is known; false after ``timeout`` seconds."""
        deadline = deadline_after(timeout)
        return all(part.wait(_left(deadline)) for part in self._parts)

    def result(self, timeout: float | None = None) -> BatchReport:
        """Wait until every outcome is known. Raises :class:`~rdknotify.Timeout`."""
        deadline = deadline_after(timeout)
        return _merge([part.result(_left(deadline)) for part in self._parts])

    def poll(self) -> BatchReport | None:
        """The report if every outcome is known, else None; never blocks."""
        reports = [part.poll() for part in self._parts]
        known = [report for report in reports if report is not None]
        return _merge(known) if len(known) == len(reports) else None


def _method(priority: str) -> Callable[[Notifier, Any, str, Any], str]:
    """One of the notifier's seven methods; all of the work stands in it, as each call would slow it by 2 %."""
    wire_priority = priority.upper()

    def notify(self: Notifier, ctxt: Any, event_type: str, payload: Any) -> str:
        message_id, value = encode_new(self.publisher_id, event_type, wire_priority, payload, ctxt, compose)
        ledger = self._ledger
        for topic in self._topics[priority]:
            ledger.pending.append((self._producer.send(topic, value), topic, message_id, event_type))
        ledger.settle()
        return message_id

    notify.__name__ = priority
    notify.__qualname__ = f"Notifier.{priority}"
    notify.__doc__ = f"Send one notification of priority {wire_priority}; returns its message id."
    return notify


class Notifier(Closing):
    """Sends notifications of one publisher to ``<topic>.<priority>[.<virtual host>]`` of each of its topics.

    ``info(ctxt, event_type, payload)``, and ``audit``, ``debug``, ``warn``, ``error``, ``critical`` and ``sample``,
    enqueue one notification and return its message id (``ctxt``: the request's context, a mapping; ``payload``: what
    JSON can hold). They wait only while the local queue is full (option ``queue_timeout``), then raise QueueFull. A
    payload that cannot be encoded raises before anything is enqueued. What Kafka did not take is logged, and named by
    the next ``flush()`` or ``close()``. Records have no key. Safe to use from several threads. As a context manager
    it is closed at the end.

    Args:
        url: the transport URL, or a :class:`~rdknotify.TransportURL`.
        publisher_id: who sends, as ``"compute.node1"``.
        topics: notification topics, without priority and virtual host; each gets every notification.
        tracing: follows notifications to who handles them, as :class:`rdknotify.otel.Tracing`; None: nothing is done.
        config: other librdkafka properties. ``options``: those of a producer.

    Raises:
        ConfigError: an option, topic or argument is wrong.
    """

    def __init__(
        self,
        url: str | TransportURL,
        publisher_id: str,
        topics: Sequence[str] = ("notifications",),
        *,
        tracing: Tracing | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if isinstance(topics, str) or not topics:
            raise ConfigError(f"topics={topics!r}: give a list of at least one topic, as ['notifications']")
        vhost = TransportURL.parse(url).virtual_host
        self.publisher_id = publisher_id
        self._topics = {
            priority: tuple(names.notification_topic(topic, priority, vhost) for topic in topics)
            for priority in names.PRIORITIES
        }
        self._ledger = Ledger()
        if tracing is None:
            self._producer = Producer(url, config=config, **options)
        else:
            self._producer = TracedProducer(url, tracing=tracing, config=config, **options)

    audit = _method("audit")
    debug = _method("debug")
    info = _method("info")
    warn = _method("warn")
    error = _method("error")
    critical = _method("critical")
    sample = _method("sample")

    def notify_batch(self, priority: str, events: Iterable[tuple[str, Any]], ctxt: Any = None) -> Delivery:
        """Send many notifications ``(event_type, payload)`` in one call; index i of the delivery is event i.

        Raises QueueFull when there was no room for all of them until ``queue_timeout``; what was enqueued
        is sent.
        """
        if priority not in self._topics:
            raise ConfigError(f"priority={priority!r}: must be one of {', '.join(self._topics)}")
        wire_priority = priority.upper()
        event_types, message_ids, values = [], [], []
        for event_type, payload in events:
            message_id, value = encode_new(self.publisher_id, event_type, wire_priority, payload, ctxt, compose)
            event_types.append(event_type)
            message_ids.append(message_id)
            values.append(value)
        parts: list[Delivery] = []
        for topic in self._topics[priority]:
            try:
                parts.append(self._producer.send_batch(topic, values))
            except QueueFull as full:
                self._ledger.pending.append((full.delivery, topic, message_ids, event_types))
                raise
            self._ledger.pending.append((parts[-1], topic, message_ids, event_types))
        self._ledger.settle()
        return parts[0] if len(parts) == 1 else MergedDelivery(parts)

    def set_credentials(self, username: str, password: str) -> None:
        """As :meth:`Producer.set_credentials <rdknotify.Producer.set_credentials>`."""
        self._producer.set_credentials(username, password)

    def flush(self, timeout: float | None = None) -> None:
        """Wait at most ``timeout`` seconds until the outcome of everything sent so far is known.

        Raises:
            DeliveryError: names what was not delivered since the last flush.
            Timeout: some outcomes are still unknown; failures known by now are kept for the next flush.
        """
        self._producer.flush(timeout)
        self._ledger.raise_undelivered()

    def close(self, timeout: float | None = None) -> None:
        """Deliver what is in flight, at the ``timeout`` (option ``flush_timeout``) give up the rest, release.

        Idempotent. Raises DeliveryError as ``flush()`` does, given up notifications included.
        """
        try:
            self._producer.close(timeout)
        except Timeout as late:
            self._ledger.raise_undelivered(late)
            raise
        self._ledger.raise_undelivered()


def _left(deadline: float) -> float | None:
    left = remaining(deadline)
    return None if left == math.inf else left


def _merge(reports: Sequence[BatchReport]) -> BatchReport:
    by_index: dict[int, list[Failure]] = {}
    for report in reports:
        for failure in report.failures:
            by_index.setdefault(failure.index, []).append(failure)
    failures = []
    for index, found in sorted(by_index.items()):
        nowhere = len(found) == len(reports) and all(failure.outcome is Outcome.NOT_PERSISTED for failure in found)
        outcome = Outcome.NOT_PERSISTED if nowhere else Outcome.POSSIBLY_PERSISTED
        failures.append(Failure(index, found[0].error, outcome))
    total = reports[0].total
    return BatchReport(total, total - len(failures), failures)
