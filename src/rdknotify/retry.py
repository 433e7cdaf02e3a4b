"""Requeue on any Kafka: what is wanted again goes to a retry topic, and is held back until it is due.

Decisions (how often, how long, whose turn) are plain values; :class:`Retries` is the one place that
publishes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from rdknotify import topics
from rdknotify._rdknotify import Client
from rdknotify.deadletter import BatchProducer, too_large
from rdknotify.errors import KafkaError
from rdknotify.producer import Producer
from rdknotify.provenance import Origin, ReadRecord, origin_headers

__all__ = ["DelayLine", "Republisher", "Retries", "create_absent"]

log = logging.getLogger(__name__)

CREATE_TIMEOUT = 5.0
"""Seconds that a cluster may take to create topics."""

_Record = TypeVar("_Record", bound=ReadRecord)
_Partition = tuple[str, int]


def create_absent(client: Client, names: Iterable[str]) -> None:
    """Create the topics that do not exist, with the broker's defaults.

    A cluster that refuses is only logged: the topic may be made by an operator, or by the broker at the
    first record, and if not, publishing to it fails with its own error.
    """
    absent = [name for name in names if not client.metadata(name)["topics"].get(name)]
    if not absent:
        return
    try:
        answers = client.create_topics([(name, -1, -1, {}) for name in absent], CREATE_TIMEOUT)
    except KafkaError as error:
        answers = [error] * len(absent)
    for name, answer in zip(absent, answers, strict=True):
        if answer is not None and answer.name != "TOPIC_ALREADY_EXISTS":
            log.info("topic %s was not created: %s", name, answer)


class Republisher(Producer):
    """A producer of retries and dead letters: a topic that is absent is created before its first record."""

    def check_topic(self, topic: str) -> None:
        super().check_topic(topic)
        create_absent(self, [topic])


class Retries:
    """Where the records of one group go that are wanted again, and how often.

    Each source topic has a retry topic of its own, so that members of the group with other topics never get
    them.

    Args:
        delay: seconds until a record is handed out again; the same for every attempt, so that order keeps
            it due in order.
        max_deliveries: how often a record is handed out in all.
    """

    def __init__(self, sources: Iterable[str], group: str, delay: float, max_deliveries: int) -> None:
        self.group = group
        self.delay = delay
        self.max_deliveries = max_deliveries
        self._retry_topics: Mapping[str, str] = {name: topics.retry_topic(name, group) for name in sources}
        self.topics = frozenset(self._retry_topics.values())

    def deliveries(self, record: ReadRecord) -> int:
        """How often the record has been handed out, this time included."""
        # Elsewhere the header is history: a dead letter that somebody put back starts anew.
        return Origin.of(record).attempts + 1 if record.topic in self.topics else 1

    def exhausted(self, record: ReadRecord) -> bool:
        """True when this was the record's last delivery."""
        return self.deliveries(record) >= self.max_deliveries

    def publish(self, records: Sequence[_Record], producer: BatchProducer, now: float) -> list[_Record]:
        """Publish to the retry topics and wait; returns the records that no longer fit into one.

        ``now`` is seconds since the epoch. Raises PartialDeliveryError when another one is not known to be
        kept; the wait is bounded by the producer's delivery timeout.
        """
        not_before = round((now + self.delay) * 1000)
        by_topic: dict[str, list[_Record]] = {}
        for record in records:
            by_topic.setdefault(self._retry_topics.get(record.topic, record.topic), []).append(record)
        oversized = []
        for topic, chosen in by_topic.items():
            report = producer.deliver(topic, *self._columns(chosen, not_before))
            misfits = [chosen[failure.index] for failure in report.failures if too_large(failure)]
            if len(misfits) < len(report.failures):
                report.raise_for_failures()
            oversized += misfits
        return oversized

    def _columns(self, records: Sequence[ReadRecord], not_before: int) -> tuple[list[Any], list[Any], list[Any]]:
        headers = [
            origin_headers(record, self.group, attempts=self.deliveries(record), not_before=not_before)
            for record in records
        ]
        return [record.value for record in records], [record.key for record in records], headers


class DelayLine(Generic[_Record]):
    """Records of retry topics that are not due yet, in the order of their partitions.

    Bounded by its owner, who pauses the partitions it names: at most what one poll brought of each. Times
    are milliseconds since the epoch.
    """

    def __init__(self, retry_topics: Collection[str], longest: float) -> None:
        self._topics = frozenset(retry_topics)
        self._longest = round(longest * 1000)
        self._held: dict[_Partition, deque[tuple[int, _Record]]] = {}

    @property
    def partitions(self) -> set[_Partition]:
        """Partitions of which something is held."""
        return set(self._held)

    def next_due(self) -> int | None:
        """When the next record is due; None while nothing is held."""
        return min((line[0][0] for line in self._held.values()), default=None)

    def hold(self, record: _Record, now: int) -> bool:
        """Keep the record if it, or one before it, is not due; false if it may be handed out."""
        if record.topic not in self._topics:
            return False
        partition = (record.topic, record.partition)
        # The sender's clock may be ahead of ours: nothing is held longer than the delay.
        due = min(Origin.of(record).not_before, now + self._longest)
        if partition not in self._held and due <= now:
            return False
        self._held.setdefault(partition, deque()).append((due, record))
        return True

    def release(self, now: int) -> list[_Record]:
        """Take what is due, each partition in its order."""
        released = []
        for partition, line in list(self._held.items()):
            while line and line[0][0] <= now:
                released.append(line.popleft()[1])
            if not line:
                del self._held[partition]
        return released

    def forget(self, partitions: Iterable[_Partition]) -> None:
        """Drop what is held of partitions that were taken away: their next owner reads it again."""
        for partition in partitions:
            self._held.pop(partition, None)
