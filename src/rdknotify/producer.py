"""Sending records: the core's producer, made from a URL and options."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rdknotify import _rdknotify as core
from rdknotify import green, topics
from rdknotify.client import TIMED_OUT, Closing, admit
from rdknotify.errors import KafkaError
from rdknotify.events import ClientEvents, logger
from rdknotify.options import resolve
from rdknotify.url import TransportURL

__all__ = ["Producer"]


class Producer(Closing, core.Producer):
    """Sends records to Kafka, one or a batch at a time, and says what became of each. Thread-safe.

    ``config`` passes librdkafka properties through; ``options`` are rdknotify's (``docs/options.md``).

    Raises:
        ConfigError: the URL, an option or a property is wrong.
        AuthenticationError, Timeout: the cluster refused us, or did not answer within ``connect_timeout`` seconds.
    """

    exit_rank: ClassVar[int] = 1

    def __init__(self, url: str | TransportURL, *, config: Mapping[str, Any] | None = None, **options: Any) -> None:
        settings = resolve(TransportURL.parse(url), "producer", options, config)
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

        Raises :class:`~rdknotify.Timeout` saying how many are still unknown after ``timeout`` seconds (None: no limit).
        """
        unknown = green.call(super().flush, timeout)
        if unknown:
            raise core.kafka_error(TIMED_OUT, f"{unknown} records have no outcome yet, {timeout:g} s after flush()")

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
            try:
                given_up = green.call(super().flush, limit)
            except KafkaError as error:
                if not error.fatal:  # what is fatal was raised to whoever used the producer since
                    raise
                given_up = self.in_flight
            finally:
                self.shut()
        if given_up:
            text = f"{given_up} records were not delivered within {limit:g} s and were given up by close()"
            raise core.kafka_error(TIMED_OUT, text)

    def __del__(self) -> None:
        events: ClientEvents | None = getattr(self, "events", None)  # None: construction failed early
        if events is not None and not self.closed:
            warnings.warn(f"{events.name} was not closed", ResourceWarning, stacklevel=2, source=self)
            if self.in_flight:
                logger.error("%s was not closed: the outcome of %d records is unknown", events.name, self.in_flight)
