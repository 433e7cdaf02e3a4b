"""The embedded mock with verbs that read well in a test."""

from __future__ import annotations

from functools import cache
from types import TracebackType

from rdknotify import _rdknotify
from rdknotify.errors import ConfigError

__all__ = ["API_KEYS", "MockCluster"]

API_KEYS = {
    "Produce": 0,
    "Fetch": 1,
    "ListOffsets": 2,
    "Metadata": 3,
    "OffsetCommit": 8,
    "OffsetFetch": 9,
    "FindCoordinator": 10,
    "JoinGroup": 11,
    "Heartbeat": 12,
    "LeaveGroup": 13,
    "SyncGroup": 14,
    "ApiVersions": 18,
    "InitProducerId": 22,
    "OffsetForLeaderEpoch": 23,
    "AddPartitionsToTxn": 24,
    "AddOffsetsToTxn": 25,
    "EndTxn": 26,
    "TxnOffsetCommit": 28,
    "ConsumerGroupHeartbeat": 68,
    "ShareGroupHeartbeat": 76,
    "ShareFetch": 78,
    "ShareAcknowledge": 79,
}
"""The kinds of requests that the mock answers, by their name in Kafka's protocol."""

NO_LEADER = -1
_ERROR_CODES = range(-200, 200)


class MockCluster:
    """librdkafka's in-process Kafka on real ports of 127.0.0.1: brokers numbered from 1, up in milliseconds.

    A context manager. Unknown topics come into being when used, with 4 partitions. It keeps at most 5 MiB or
    100,000 records a partition; has no TLS, no SASL, no admin requests, and elects no leader by itself.
    Errors and kinds of requests are given by name, ``_TRANSPORT`` cuts the connection:
    ``mock.fail_next("Produce", "NOT_LEADER_FOR_PARTITION", "_TRANSPORT")``.
    """

    def __init__(self, brokers: int = 1, *, rebalance_delay: float = 0.0) -> None:
        """``rebalance_delay``: seconds that a new group waits for members (librdkafka's default is 3)."""
        self._core = _rdknotify.MockCluster(brokers)
        self._core.set_group_rebalance_delay(_milliseconds(rebalance_delay))
        self.brokers = tuple(range(1, brokers + 1))

    @property
    def bootstrap_servers(self) -> str:
        """``host:port,...`` for ``bootstrap.servers``."""
        return self._core.bootstrap_servers

    @property
    def url(self) -> str:
        """Transport URL, for every class of rdknotify."""
        return f"kafka://{self.bootstrap_servers}"

    def create_topic(self, name: str, partitions: int = 4, replication: int = 1) -> None:
        """Create a topic. Raises KafkaError when it exists."""
        self._core.create_topic(name, partitions, replication)

    def broker_down(self, broker: int) -> None:
        """Cut a broker's connections and refuse new ones; what it leads has no working leader then."""
        self._core.set_broker_up(broker, False)

    def broker_up(self, broker: int) -> None:
        self._core.set_broker_up(broker, True)

    def delay(self, seconds: float, broker: int | None = None) -> None:
        """Let every answer of a broker (or all) take this long; 0 ends it."""
        for each in self.brokers if broker is None else (broker,):
            self._core.set_broker_rtt(each, _milliseconds(seconds))

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """Make a broker the leader of a partition."""
        self._core.set_leader(topic, partition, broker)

    def leaderless(self, topic: str, partition: int) -> None:
        """Take a partition's leader away; :meth:`lead` gives it one again."""
        self._core.set_leader(topic, partition, NO_LEADER)

    def fail_next(self, api: str, *errors: str, broker: int | None = None, delay: float = 0.0) -> None:
        """Answer the next requests of one kind with these errors, one each.

        With ``broker`` only that broker's; ``delay`` in seconds needs it. ``NO_ERROR`` answers as usual:
        with a delay a request is served and its answer late.
        """
        key, codes = _api_key(api), [_error_code(error) for error in errors]
        if broker is not None:
            self._core.push_broker_request_errors(broker, key, [(code, _milliseconds(delay)) for code in codes])
        elif delay:
            raise ConfigError(f"delay={delay!r} needs a broker=")
        else:
            self._core.push_request_errors(key, codes)

    def fail_partition(self, topic: str, partition: int, api: str, *errors: str) -> None:
        """The same for one partition's share of the requests: the others are served."""
        self._core.push_partition_errors(topic, partition, _api_key(api), [_error_code(error) for error in errors])

    def fail_topic(self, topic: str, error: str) -> None:
        """Let metadata requests answer for this topic with an error, ``NO_ERROR`` ends it."""
        self._core.set_topic_error(topic, _error_code(error))

    def close(self) -> None:
        """End the cluster. Idempotent."""
        self._core.close()

    def __enter__(self) -> MockCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _api_key(api: str) -> int:
    if api not in API_KEYS:
        raise ConfigError(f"api={api!r}: the mock answers {', '.join(API_KEYS)}")
    return API_KEYS[api]


def _error_code(name: str) -> int:
    codes = _codes_by_name()
    if name not in codes:
        raise ConfigError(f"error={name!r}: not an error of Kafka or librdkafka, as NOT_LEADER_FOR_PARTITION")
    return codes[name]


@cache
def _codes_by_name() -> dict[str, int]:
    return {_rdknotify.kafka_error(code).name: code for code in _ERROR_CODES}
