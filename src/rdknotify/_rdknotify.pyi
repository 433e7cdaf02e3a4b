"""Types of the extension: librdkafka for Python, whole batches at a time and without policy.

Timeouts are seconds; ``None`` waits for ever, in slices that answer Ctrl-C. Every method may raise
:class:`~rdknotify.ClosedError` (closed, or forked) and, once librdkafka has latched a fatal error, a
:class:`~rdknotify.KafkaError` with ``fatal=True``. Methods are safe to call from several threads unless said otherwise.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, final

from typing_extensions import disjoint_base

from rdknotify.errors import KafkaError
from rdknotify.outcomes import BatchReport
from rdknotify.shapes import Buffer, Counted, Event, Headers, Member, Node, Offset, Partition, Position

__all__ = [
    "Admin",
    "Batch",
    "Client",
    "Consumer",
    "Delivery",
    "Meter",
    "MockCluster",
    "Producer",
    "Record",
    "ShareConsumer",
    "compose",
    "features",
    "kafka_error",
    "live_handles",
    "murmur2",
    "parts",
    "version",
    "wait_events",
]

def version() -> str: ...
def features() -> tuple[str, ...]:
    """What librdkafka was built with, by its names: ``gzip``, ``ssl``, ``sasl_scram``, ``oidc`` ..."""

def parts() -> dict[str, str]: ...
def live_handles() -> dict[str, int]: ...
def wait_events(timeout: float) -> bool:
    """Wait without the GIL until events arrived since the last call that returned true; false at the timeout.

    For a thread of its own: signals are not looked at.
    """

def kafka_error(
    code: int, reason: str | None = None, *, fatal: bool = False, kind: type[KafkaError] | None = None
) -> KafkaError:
    """The KafkaError, or the subclass a caller would branch on, for a ``rd_kafka_resp_err_t``."""

def murmur2(key: bytes) -> int: ...
def compose(
    names: tuple[object, object, object], payload: object, payload_json: bytes, context: object, context_json: bytes
) -> tuple[str, bytes] | None:
    """``(message id, wire form)`` of a notification made now, in the form of ``rdknotify.envelope.encode_new``.

    ``names`` are publisher id, event type and priority. None if this is not for it: if one of them is no text or needs
    escaping, or if the JSON, which must be orjson's, has null for what is not None.
    """

@final
class Meter:
    """The counts of one client; it does not keep the client alive. A property and a method that never wait."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    @property
    def final(self) -> bool:
        """Whether nothing changes any more: the handle is gone."""

    def read(self) -> Counted: ...

@disjoint_base
class Client:
    """A librdkafka handle: what producers and consumers share. Not made directly."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    @property
    def name(self) -> str:
        """What it is called in the log, as ``rdknotify#producer-1``."""

    @property
    def meter(self) -> Meter: ...
    @property
    def closed(self) -> bool:
        """Whether it was closed, or belongs to the parent of this process. Never blocks."""

    def take_events(self) -> list[Event]:
        """Take the logs, errors and statistics that arrived since the last call; never blocks, works after close."""

    @property
    def accepted(self) -> bool:
        """Whether the cluster has ever answered this client: then it was accepted as who it is. Never blocks."""

    def check_accepted(self) -> None:
        """Called now and then while a call waits; a subclass raises what the cluster has against us."""

    def last_trouble(self) -> str:
        """A subclass says what went wrong last, for the text of a timeout; empty: nothing."""

    def set_credentials(self, username: str, password: str) -> None:
        """Authenticate with these from the next connection on; connections that are there stay."""

    def set_token(self, value: str, expires: int, principal: str, extensions: Mapping[str, str]) -> None:
        """Authenticate with this OAuth token until then (milliseconds since the epoch).

        An event ``token`` says when one is wanted: at first, and after 80 % of its life. Raises KafkaError for one that
        has expired, and where ``sasl.mechanism`` is not OAUTHBEARER.
        """

    def set_token_failure(self, reason: str) -> None:
        """There is no new token; it is asked for again in 10 seconds. The reason comes back as an error event."""

    def metadata(self, topic: str | None = None, timeout: float = 5.0) -> dict[str, Any]:
        """Ask the cluster for its brokers, topics and leaders.

        ``{"brokers": [(id, host, port)], "topics": {name: {partition: leader}}, "errors": {name: code}}``.
        With ``topic`` only that one; without, all. Raises KafkaError ``_TRANSPORT`` or ``_TIMED_OUT``.
        """

    def cluster_reachable(self, timeout: float) -> bool:
        """One metadata request without topics; false when there was no answer in time."""

    def create_topics(
        self, topics: Sequence[tuple[str, int, int, Mapping[str, str]]], timeout: float = 10.0
    ) -> list[KafkaError | None]:
        """Create ``(name, partitions, replication, config)``; one answer each (-1: the broker's default)."""

    def delete_topics(self, topics: Sequence[str], timeout: float = 10.0) -> list[KafkaError | None]:
        """Delete topics by name; one answer each, None where it was deleted. The broker does so a little later."""

    def shut(self, timeout: float = 1.0) -> None:
        """Release the handle: give up what is in flight, leave the group in the background. Idempotent, bounded.

        Waits up to ``timeout`` seconds for librdkafka's threads to end; records polled from it keep it alive in C.
        """

@final
class Delivery:
    """What becomes of the records of one call. May be dropped at any time; may be waited for by any thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    @property
    def total(self) -> int:
        """How many records the call was given."""

    def __len__(self) -> int: ...
    @property
    def failed(self) -> int:
        """How many records are known by now not to have been delivered; never blocks."""

    def done(self) -> bool:
        """Whether every outcome is known; never blocks."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every outcome is known; false at the timeout."""

    def result(self, timeout: float | None = None) -> BatchReport:
        """Wait until every outcome is known. Raises :class:`~rdknotify.Timeout` naming how many are still unknown."""

    def poll(self) -> BatchReport | None:
        """The report if every outcome is known, else None; never blocks."""

@disjoint_base
class Producer(Client):
    def __init__(self, conf: Mapping[str, str], queue_timeout: float = 10.0) -> None: ...
    def check_topic(self, topic: str) -> None:
        """Called once for each topic before its first record; a subclass raises ConfigError for a bad name."""

    def send(
        self,
        topic: str,
        value: Buffer | None,
        key: Buffer | None = None,
        headers: Headers | None = None,
        *,
        timeout: float | None = None,
    ) -> Delivery:
        """Enqueue one record; waits only while the local queue is full, up to ``timeout`` (default: the client's)."""

    def send_batch(
        self,
        topic: str,
        values: Sequence[Buffer | None],
        keys: Sequence[Buffer | None] | None = None,
        headers: Headers | Sequence[Headers | None] | None = None,
        *,
        timeout: float | None = None,
    ) -> Delivery:
        """Enqueue many records in one call without the GIL. A mapping as headers goes to every record.

        Raises TypeError or ValueError before anything is enqueued; QueueFull when there was no room until ``timeout``.
        """

    @property
    def in_flight(self) -> int:
        """Records enqueued whose outcome is not known yet."""

    def flush(self, timeout: float | None = None) -> int:
        """Send without lingering and wait for every outcome; returns how many are still unknown at the timeout."""

    def purge(self) -> None:
        """Give up everything in flight: outcomes NOT_PERSISTED (queued) or POSSIBLY_PERSISTED (sent)."""

@final
class Record:
    """One record of a batch; the payload is copied when asked for.

    ``memoryview(record)`` is the value without a copy.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    @property
    def value(self) -> bytes | None:
        """A copy of the value; None of a tombstone."""

    @property
    def key(self) -> bytes | None:
        """A copy of the key; None where there is none."""

    @property
    def delivery_count(self) -> int:
        """How often a share group has handed it out, this time included; 0 outside of share groups."""

    @property
    def headers(self) -> list[tuple[str, bytes | None]]:
        """Names and values, in the order in which they were sent; a name may be there twice."""

    @property
    def topic(self) -> str:
        """The topic's name."""

    @property
    def partition(self) -> int:
        """The partition's number, from 0."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def timestamp(self) -> int | None:
        """Milliseconds since the epoch, as the topic's ``message.timestamp.type`` says; None where there is none."""

    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

@disjoint_base
class Batch:
    """Records of one poll, in C until asked for: a sequence of :class:`Record`, per partition in order."""

    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __getitem__(self, index: int, /) -> Record: ...
    def __iter__(self) -> Iterator[Record]: ...
    def values(self) -> list[bytes | None]:
        """A copy of each value; None of a tombstone."""

    def keys(self) -> list[bytes | None]:
        """A copy of each key."""

    def origins(self) -> list[Offset]:
        """Topic, partition and offset of each record."""

    def timestamps(self) -> list[int | None]:
        """Milliseconds since the epoch of each record."""

    def positions(self) -> list[Position]:
        """For each partition in the batch the offset after its last record: what to commit."""

    def release(self) -> None:
        """Free the payloads now; the batch is empty afterwards. Records and views taken from it stay valid."""

@disjoint_base
class Consumer(Client):
    """Polled by one thread at a time; the other methods from any."""

    def __init__(self, conf: Mapping[str, str]) -> None: ...
    def subscribe(self, topics: Sequence[str]) -> None:
        """Topic names; one that starts with ``^`` is a regular expression."""

    def poll(self, batch: Batch, max_records: int, timeout: float | None) -> bool:
        """Fill an empty batch with what is ready, as soon as one record is; true if there is any.

        False at the timeout, and at once when a rebalance or an error waits to be taken.
        """

    def take_rebalance(self) -> tuple[str, list[Partition], bool] | None:
        """The oldest rebalance that waits: ``("assign" | "revoke" | "lost", partitions, incremental)``.

        Answer it with :meth:`assign` or :meth:`unassign`; while leaving, an assignment gets no answer.
        """

    def take_errors(self) -> list[KafkaError]: ...
    def assign(self, offsets: Sequence[Offset], incremental: bool) -> None:
        """Begin reading at these offsets; -1001 is the committed one, -2 the earliest, -1 the latest."""

    def unassign(self, partitions: Sequence[Partition], incremental: bool) -> None: ...
    def assignment(self) -> list[Partition]:
        """The partitions that are read now."""

    def commit(
        self,
        positions: Sequence[Position],
        timeout: float | None = None,
        wait: bool = True,
        meanwhile: Callable[[], object] | None = None,
    ) -> None:
        """Commit exactly these; raises CommitFailed, Timeout or KafkaError. Without ``wait`` it only sends.

        ``meanwhile`` is called while the answer is on its way; what it raises comes out.
        """

    def committed(self, partitions: Sequence[Partition], timeout: float = 5.0) -> dict[Partition, int | None]:
        """The group's committed offset of each; None where there is none."""

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The offset that the next record gets, as of the last fetch; never waits.

        Partitions that have not been fetched are left out.
        """

    def positions(self, partitions: Sequence[Partition]) -> dict[Partition, int | None]: ...
    def topic_ids(self, topics: Sequence[str], timeout: float = 5.0) -> dict[str, str]:
        """The cluster's id of each of these topics; those that are not there, or have none, are left out."""

    def watermarks(self, topic: str, partition: int, timeout: float = 5.0) -> tuple[int, int]:
        """The oldest offset that is there, and the next one to be written, as the broker says now."""

    def offsets_for_times(self, times: Sequence[Offset], timeout: float = 5.0) -> dict[Partition, int]:
        """First offsets at or after the given milliseconds; -1 where there is none yet."""

    def seek(self, offsets: Sequence[Offset], timeout: float = 5.0) -> None: ...
    def pause(self, partitions: Sequence[Partition]) -> None: ...
    def resume(self, partitions: Sequence[Partition]) -> None: ...
    def leave(self, timeout: float) -> bool:
        """Begin to leave the group; call until true, taking rebalances in between.

        False: a rebalance waits, or the timeout is over; call again, or give up and shut.
        """

@disjoint_base
class ShareConsumer(Client):
    """A member of a share group (Kafka 4.2, a preview of librdkafka's). Calls of several threads take turns."""

    def __init__(self, conf: Mapping[str, str]) -> None: ...
    def configure_group(self, group: str, settings: Mapping[str, str], timeout: float = 5.0) -> None:
        """Set properties of a group, which need not exist yet; raises what the broker refused them with."""

    def subscribe(self, topics: Sequence[str]) -> None:
        """Topic names; there are no regular expressions."""

    def poll(self, batch: Batch, timeout: float | None) -> float | None:
        """Fill an empty batch with what one fetch acquired, as soon as there is a record.

        Returns for how many seconds at most the records have been acquired by now; None at the timeout, and when
        errors wait to be taken. Raises ``_STATE`` while a record of the poll before is not acknowledged.
        """

    def take_errors(self) -> list[KafkaError]:
        """Records that could not be read; librdkafka has released or rejected them."""

    def acknowledge(self, records: Iterable[Record], kind: int) -> None:
        """Say what becomes of each: 1 accept, 2 release, 3 reject. The next commit, poll or leave sends it.

        Raises ``_STATE`` for one that is not held (any more); those before it are acknowledged.
        """

    def commit(self, timeout: float) -> dict[Partition, KafkaError]:
        """Send what was acknowledged and wait for the answers; returns the partitions in which it failed, and why."""

    def leave(self, timeout: float) -> bool:
        """Send what was acknowledged, leave the group: what is not becomes available to others. Call until true."""

class Admin(Client):
    """Asks and changes what there is on a cluster: one request each.

    What an answer says of one group, topic or partition stands in its place, as a KafkaError where it failed; what
    concerns all of it is raised. Lists must not be empty, nor name anything twice.
    """

    def __init__(self, conf: Mapping[str, str]) -> None: ...
    def list_groups(self, timeout: float | None = 10.0) -> tuple[list[tuple[str, str, str]], list[KafkaError]]:
        """Name, state and type (``Classic``, ``Consumer``) of each, and what brokers that did not tell theirs said.

        Share groups are left out by librdkafka.
        """

    def describe_groups(
        self, groups: Sequence[str], timeout: float | None = 10.0
    ) -> dict[str, tuple[str, str, str, Node | None, list[Member]] | KafkaError]:
        """State, type, assignor, coordinator and members of each."""

    def delete_groups(self, groups: Sequence[str], timeout: float | None = 10.0) -> dict[str, KafkaError | None]: ...
    def group_offsets(
        self, group: str, partitions: Sequence[Partition] | None = None, timeout: float | None = 10.0
    ) -> dict[Partition, int | KafkaError | None]:
        """Committed offsets, None where there is none; by default of every partition that has one."""

    def alter_group_offsets(
        self, group: str, offsets: Sequence[Offset], timeout: float | None = 10.0
    ) -> dict[Partition, int | KafkaError | None]:
        """Commit these for a group that has no members."""

    def list_offsets(
        self, times: Sequence[Offset], timeout: float | None = 10.0
    ) -> dict[Partition, int | KafkaError | None]:
        """First offsets at or after a time in ms, None where there is none; -2 is the beginning, -1 the end."""

    def delete_records(
        self, offsets: Sequence[Offset], timeout: float | None = 10.0
    ) -> dict[Partition, int | KafkaError | None]:
        """Delete what is before these offsets; returns the new beginnings."""

    def describe_topics(
        self, topics: Sequence[str], timeout: float | None = 10.0
    ) -> dict[str, tuple[str, bool, list[tuple[int, int | None, list[int], list[int]]]] | KafkaError]:
        """Id, whether internal, and partitions of each: number, leader, replicas, those in sync (nodes' ids)."""

    def describe_configs(
        self, topics: Sequence[str], timeout: float | None = 10.0
    ) -> dict[str, dict[str, tuple[str | None, bool]] | KafkaError]:
        """Each setting's value, None where it is confidential, and whether it was set for this topic."""

    def describe_cluster(self, timeout: float | None = 10.0) -> tuple[str, Node | None, list[Node]]:
        """Id, controller and nodes."""

@disjoint_base
class MockCluster:
    """librdkafka's in-process Kafka: keeps at most 5 MiB or 100,000 records a partition.

    No TLS, SASL or admin requests. It is no judge of rebalances: when a member joins a group at work, it may
    wait for the session's timeout, or end the process by an assertion of its own; use a real broker for that.
    """

    def __init__(self, brokers: int = 1) -> None: ...
    @property
    def bootstrap_servers(self) -> str: ...
    def create_topic(self, topic: str, partitions: int = 4, replication: int = 1) -> None: ...
    def set_broker_up(self, broker: int, up: bool) -> None: ...
    def set_broker_rtt(self, broker: int, milliseconds: int) -> None: ...
    def set_leader(self, topic: str, partition: int, broker: int) -> None:
        """``broker`` -1: the partition has no leader.

        librdkafka's mock crashes the process when a producer that has not noticed sends to such a partition: refresh
        its metadata (:meth:`Client.metadata`) before it sends again.
        """

    def push_request_errors(self, api_key: int, codes: Sequence[int]) -> None:
        """Answer the next requests of this kind with these errors, one each."""

    def push_broker_request_errors(self, broker: int, api_key: int, codes: Sequence[tuple[int, int]]) -> None:
        """The same for one broker, each ``(code, delay in milliseconds)``."""

    def push_partition_errors(self, topic: str, partition: int, api_key: int, codes: Sequence[int]) -> None:
        """The same for one partition: the others of the request succeed."""

    def set_topic_error(self, topic: str, code: int) -> None: ...
    def set_group_rebalance_delay(self, milliseconds: int) -> None: ...
    def close(self) -> None: ...
