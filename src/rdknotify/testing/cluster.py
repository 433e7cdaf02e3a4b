"""What every Kafka of the kit can do, whoever started it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from rdknotify._rdknotify import Producer
from rdknotify.testing.block import Startable
from rdknotify.testing.jars import LocalKafkaError
from rdknotify.testing.wire import ClusterView, ask_metadata

__all__ = ["Address", "KafkaCluster", "until"]

Address = tuple[str, int]
_T = TypeVar("_T")

PAUSE = 0.05
"""Seconds between two looks at a cluster that is not there yet."""
ANSWER_TIMEOUT = 2.0
"""Seconds that a broker may take to answer one look."""


def until(look: Callable[[], _T | None], timeout: float, failure: str, details: Callable[[], str] = lambda: "") -> _T:
    """Look until there is something to see. Raises :class:`LocalKafkaError` at the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        seen = look()
        if seen is not None:
            return seen
        if time.monotonic() > deadline:
            raise LocalKafkaError(f"{failure} within {timeout:g} s{details()}")
        time.sleep(PAUSE)


class KafkaCluster(Startable):
    """A Kafka cluster that answers without TLS or SASL. Not thread-safe.

    Attributes:
        managed: the kit started it, and can therefore stop, kill and pause its nodes.
    """

    managed: bool

    def addresses(self) -> list[Address]:
        """Host and port of each broker that ought to answer now."""
        raise NotImplementedError

    @property
    def bootstrap_servers(self) -> str:
        """``host:port,...`` for ``bootstrap.servers``."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Transport URL, for every class of rdknotify."""
        return f"kafka://{self.bootstrap_servers}"

    def views(self) -> list[ClusterView]:
        """The cluster as each broker that ought to answer sees it. Raises OSError when one does not."""
        return [ask_metadata(host, port, ANSWER_TIMEOUT) for host, port in self.addresses()]

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until every broker answers. Raises :class:`LocalKafkaError` at the deadline (seconds)."""
        until(self._seen_alike(lambda view: True), timeout, f"{self.bootstrap_servers} did not answer")

    def create_topic(
        self,
        name: str,
        partitions: int = 4,
        replication: int = -1,
        config: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> None:
        """Create a topic and wait until every broker knows its leaders.

        ``replication`` -1 is the cluster's default; ``config`` has topic settings (``retention.ms`` ...).
        Raises KafkaError (``TOPIC_ALREADY_EXISTS`` ...), :class:`LocalKafkaError` at the deadline (seconds).
        """
        client = Producer({"bootstrap.servers": self.bootstrap_servers})
        try:
            (refusal,) = client.create_topics([(name, partitions, replication, config or {})], timeout=timeout)
        finally:
            client.shut()
        if refusal is not None:
            raise refusal

        def led(view: ClusterView) -> bool:
            found = view.topics.get(name, {})
            return len(found) == partitions and all(partition.leader >= 0 for partition in found.values())

        until(self._seen_alike(led), timeout, f"topic {name!r} had no leaders")

    def leader_of(self, topic: str, partition: int, timeout: float = 30.0) -> int:
        """The node that leads a partition, waiting for an election where it has no leader now.

        Raises :class:`LocalKafkaError` at the deadline (seconds).
        """

        def leader() -> int | None:
            for view in self._views_or_none() or ():
                found = view.topics.get(topic, {}).get(partition)
                if found is not None and self._may_lead(found.leader):
                    return found.leader
            return None

        return until(leader, timeout, f"partition {partition} of topic {topic!r} had no leader")

    def _may_lead(self, node: int) -> bool:
        return node >= 0

    def _views_or_none(self) -> list[ClusterView] | None:
        try:
            return self.views()
        except OSError:
            return None

    def _seen_alike(self, wanted: Callable[[ClusterView], bool]) -> Callable[[], bool | None]:
        """A look that sees something when every broker answers and its view is as wanted."""

        def look() -> bool | None:
            views = self._views_or_none()
            return True if views and all(map(wanted, views)) else None

        return look
