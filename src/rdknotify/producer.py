"""Sending records: the core's producer, made from a URL and options."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

from rdknotify import _rdknotify as core
from rdknotify import green, topics
from rdknotify.client import TIMED_OUT, Closing, admit, check_accepted, deadline_after, remaining, set_credentials
from rdknotify.errors import AuthenticationError, KafkaError, QueueFull, Timeout
from rdknotify.events import ClientEvents
from rdknotify.isolation import isolate, maybe_innocent
from rdknotify.logged import tell
from rdknotify.options import Settings, resolve
from rdknotify.outcomes import BatchReport
from rdknotify.shapes import Buffer, Headers
from rdknotify.trouble import naming_options
from rdknotify.url import TransportURL

__all__ = ["Producer"]

log = logging.getLogger(__name__)


class _Bulk(NamedTuple):
    """The arguments of ``send_batch``."""

    topic: str
    values: Sequence[Buffer | None]
    keys: Sequence[Buffer | None] | None
    headers: Headers | Sequence[Headers | None] | None

    def only(self, indexes: Sequence[int]) -> _Bulk:
        def chosen(column: Any) -> Any:
            return column if column is None or isinstance(column, Mapping) else [column[index] for index in indexes]

        return _Bulk(self.topic, chosen(self.values), chosen(self.keys), chosen(self.headers))

    def enqueue(self, producer: core.Producer, timeout: float | None) -> core.Delivery:
        """What found no room in the queue has that for its outcome."""
        try:
            return producer.send_batch(*self, timeout=timeout)
        except QueueFull as full:
            delivery: core.Delivery = full.delivery
            return delivery


class Producer(Closing, core.Producer):
    """Sends records to Kafka, one or a batch at a time, and says what became of each. Thread-safe.

    ``config`` passes librdkafka properties through; ``options`` are rdknotify's (``docs/options.md``).

    Raises:
        ConfigError: the URL, an option or a property is wrong.
        AuthenticationError, Timeout: the cluster refused us, or did not answer within ``connect_timeout`` seconds.
    """

    exit_rank: ClassVar[int] = 1

    def __init__(
        self, url: str | TransportURL | Settings, *, config: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        settings = url if isinstance(url, Settings) else resolve(url, "producer", options, config)
        self._settings = settings
        with naming_options():
            super().__init__(settings.conf, settings.values["queue_timeout"])
        self.exit_timeout: float = settings.values["flush_timeout"]
        self.events = ClientEvents(self.name)
        self._closing = threading.Lock()
        try:
            admit(self, self, settings)
        except BaseException:
            self.shut()
            raise

    @property
    def statistics(self) -> dict[str, Any] | None:
        """librdkafka's last statistics (``statistics.interval.ms``), parsed; None before the first."""
        return self.events.statistics

    def check_topic(self, topic: str) -> None:
        """Called once for each topic before its first record. Raises ConfigError for a name that Kafka forbids."""
        topics.check_name(topic)

    def check_accepted(self) -> None:
        """Called now and then inside what waits. Raises AuthenticationError while the cluster refuses us."""
        check_accepted(self, self)

    def last_trouble(self) -> str:
        """What went wrong last, for the text of a timeout; empty, or a clause."""
        return self.events.recent()

    def deliver(
        self,
        topic: str,
        values: Sequence[Buffer | None],
        keys: Sequence[Buffer | None] | None = None,
        headers: Headers | Sequence[Headers | None] | None = None,
        *,
        timeout: float | None = None,
    ) -> BatchReport:
        """Send a batch, wait, and let no record fail for a neighbour's sake; returns the outcomes.

        A broker refuses a request as a whole: with one record that the topic finds too large, or without a key
        where it is compacted, all that travel with it fail. Here they are sent again, in ever smaller parts and
        apart from everybody else's, until only the culprits fail; the others are delivered once. What was
        ``POSSIBLY_PERSISTED`` is not sent again. Of a full queue the outcomes tell, ``QueueFull`` is not raised.

        ``timeout``: seconds for all of it (default: ``delivery_timeout``). What could not be tried alone by then has
        :class:`~rdknotify.Timeout` for its error. Raises that when an outcome of the first attempt is unknown then.
        """
        deadline = deadline_after(self._settings.values["delivery_timeout"] if timeout is None else timeout)
        bulk = _Bulk(topic, values, keys, headers)
        report = green.call(bulk.enqueue(self, timeout).result, None if timeout is None else remaining(deadline))
        if not any(map(maybe_innocent, report.failures)):
            return report
        apart = self._unchecked(**{"linger.ms": "0"})

        def send(part: Sequence[int]) -> BatchReport | None:
            if not remaining(deadline):
                return None
            try:
                delivery = bulk.only(part).enqueue(apart, remaining(deadline))
                if not green.wait(delivery, remaining(deadline)):
                    apart.purge()
                    green.wait(delivery)
                return delivery.result()
            except KafkaError as error:  # what is known of the bulk matters more
                log.warning("%s cannot try records of a refused request one by one: %s", self.name, error)
                return None

        try:
            return isolate(report, send)
        finally:
            apart.shut()

    def _unchecked(self, **conf: str) -> Producer:
        """Another producer with our settings, but for some properties; its cluster is known to answer."""
        values = {**self._settings.values, "connect_timeout": None}
        return self._another(replace(self._settings, values=values, conf={**self._settings.conf, **conf}))

    def _another(self, settings: Settings) -> Producer:
        return Producer(settings)

    def set_credentials(self, username: str, password: str) -> None:
        """Authenticate with these from now on: new connections do, and those that must authenticate again (KIP-368).

        For SASL PLAIN and SCRAM. Connections that are there stay. Raises ConfigError.
        """
        set_credentials(self, self, username, password)

    def metadata(self, topic: str | None = None, timeout: float = 5.0) -> dict[str, Any]:
        """The cluster's brokers, topics and leaders, as the core's."""
        return green.call(super().metadata, topic, timeout)

    def create_topics(
        self, topics: Sequence[tuple[str, int, int, Mapping[str, str]]], timeout: float = 10.0
    ) -> list[KafkaError | None]:
        """Create ``(name, partitions, replication, config)``; one answer each (-1: the broker's default)."""
        return green.call(super().create_topics, topics, timeout)

    def shut(self, timeout: float = 1.0) -> None:
        """Release the handle without delivering what is in flight. Idempotent; waits up to ``timeout`` seconds."""
        green.call(super().shut, timeout)

    def flush(self, timeout: float | None = None) -> None:  # type: ignore[override]  # raises, the core counts
        """Send without lingering and wait until every outcome is known.

        Raises :class:`~rdknotify.Timeout` saying how many are still unknown after ``timeout`` seconds (None: no limit),
        AuthenticationError while the cluster refuses us; the records stay queued.
        """
        unknown = green.call(super().flush, timeout)
        if unknown:
            text = f"{unknown} records have no outcome yet, {timeout:g} s after flush(){self.last_trouble()}"
            raise core.kafka_error(TIMED_OUT, text)

    def close(self, timeout: float | None = None) -> None:
        """Flush, give up what is left after ``timeout`` seconds (default: ``flush_timeout``), release. Idempotent.

        Raises :class:`~rdknotify.Timeout` saying how many records were given up; the producer is closed all the same.
        """
        limit = self.exit_timeout if timeout is None else timeout
        if self.closed:  # in a forked child the lock may be held for ever
            return
        with self._closing:
            if self.closed:
                return
            reason = ""
            try:
                given_up = green.call(super().flush, limit)
            except KafkaError as error:
                # What is fatal was raised to whoever used the producer since; while we are refused nothing can be sent.
                if not error.fatal and not isinstance(error, (AuthenticationError, Timeout)):
                    raise
                given_up, reason = self.in_flight, f"; {error}"
            finally:
                self.shut()
        if given_up:
            reason = reason or self.last_trouble()
            text = f"{given_up} records were not delivered within {limit:g} s and were given up by close(){reason}"
            raise core.kafka_error(TIMED_OUT, text)

    def __del__(self) -> None:
        events: ClientEvents | None = getattr(self, "events", None)  # None: construction failed early
        if events is not None and not self.closed:
            warnings.warn(f"{events.name} was not closed", ResourceWarning, stacklevel=2, source=self)
            if self.in_flight:
                text = "%s was not closed: the outcome of %d records is unknown"
                tell(log, "undelivered", text, events.name, self.in_flight, client=events.name, count=self.in_flight)
