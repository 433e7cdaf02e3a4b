"""What rdknotify counts: one table of metrics, and :func:`collect`, which reads them when somebody asks.

Exporters (:mod:`rdknotify.prometheus`, :mod:`rdknotify.otel`), the table in ``docs/metrics.md`` and the checks of the
dashboard all follow from :data:`METRICS`.

``collect()`` returns a list of :class:`Sample`, in the order of the table, one for each metric and set of labels::

    Sample(metric=RECORDS_SENT, labels=("rdknotify", "notifications.info"), value=1000)
    Sample(metric=DELIVERY_LATENCY, labels=("rdknotify",), value=Distribution(counts=(0, 12, ...), sum=3.5))

``labels`` are the values of ``metric.labels``, in that order. ``value`` is a number, or for a histogram a
:class:`Distribution`: how many observations fell into each bucket (not cumulative; ``counts[i]`` are those above
``metric.buckets[i - 1]`` and at most ``metric.buckets[i]``, the last of ``counts`` is for those above all), and their
sum. Names are Prometheus's: a counter ends in ``_total``, units are seconds, bytes and records.

Clients with the same ``client.id`` are one series; what was counted by closed clients stays in it, so that counters
never go backwards. Gauges speak of open clients only. Nothing is sent anywhere and no thread runs for it. Thread-safe;
a forked child begins at zero.
"""

from __future__ import annotations

import os
import threading
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

from rdknotify.shapes import LATENCY_BOUNDS, SIZE_BOUNDS

__all__ = [
    "LABELS",
    "METRICS",
    "Distribution",
    "Fields",
    "Metric",
    "Sample",
    "Source",
    "add",
    "collect",
    "markdown",
    "observe",
    "register",
]

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Merge: TypeAlias = Literal["sum", "max", "min"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metric:
    """One metric, as declared in :data:`METRICS`.

    Attributes:
        unit: records, seconds, bytes, or a word for what is counted.
        labels: the names of the labels, whose values are few: see :data:`LABELS`.
        buckets: the upper bounds of a histogram's buckets, without the last one, which has none.
        merge: how the values of several clients with the same labels become one.
        statistics: whether it is there only with the option ``statistics_interval``.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()
    merge: Merge = "sum"
    statistics: bool = False


class Distribution(NamedTuple):
    """What a histogram has counted: observations in each bucket (one more than bounds), and their sum."""

    counts: tuple[int, ...]
    sum: float


class Sample(NamedTuple):
    """The value of one metric for one set of label values."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | Distribution


LABELS = {
    "client": "librdkafka's client.id, `rdknotify` unless `config` has another",
    "topic": "a topic's name",
    "partition": "a partition's number",
    "group": "a consumer group, or share group",
    "reason": "the name of Kafka's or librdkafka's error, as `_MSG_TIMED_OUT`",
    "event": "`assigned`, `revoked`, or `lost`: taken away without asking",
    "broker": "a broker's number",
    "quantile": "`0.5` or `0.99` of the requests since the statistics before",
}
"""Every label, and what its values are."""

METRICS: list[Metric] = []
"""Every metric, in the order of the documentation."""

_SECONDS = tuple(bound / 1e6 for bound in LATENCY_BOUNDS)
_RECORDS = tuple(float(bound) for bound in SIZE_BOUNDS)


def _metric(
    name: str, kind: Kind, unit: str, labels: str, text: str, *, merge: Merge = "sum", statistics: bool = False
) -> Metric:
    buckets = {"seconds": _SECONDS, "records": _RECORDS}[unit] if kind == "histogram" else ()
    metric = Metric(
        name=f"rdknotify_{name}", kind=kind, unit=unit, help=text, labels=tuple(labels.split()), buckets=buckets,
        merge=merge, statistics=statistics,
    )  # fmt: skip
    METRICS.append(metric)
    return metric


# -- clients
OPEN_CLIENTS = _metric(
    "open_clients", "gauge", "clients", "client", "Producers and consumers that are open.",
)  # fmt: skip
CLIENT_ERRORS = _metric(
    "client_errors_total", "counter", "errors", "client reason",
    "Errors that librdkafka told, as `_TRANSPORT` for a connection that broke, and `_ALL_BROKERS_DOWN`: many times a "
    "second while it lasts.",
)  # fmt: skip
# -- sending
RECORDS_SENT = _metric(
    "records_sent_total", "counter", "records", "client topic",
    "Records handed over to be sent: those delivered, failed and in flight together.",
)  # fmt: skip
RECORDS_DELIVERED = _metric(
    "records_delivered_total", "counter", "records", "client topic", "Records that the brokers have acknowledged.",
)  # fmt: skip
RECORDS_FAILED = _metric(
    "records_failed_total", "counter", "records", "client topic reason",
    "Records that were not, or perhaps not, delivered. What is sent again counts again.",
)  # fmt: skip
RECORDS_IN_FLIGHT = _metric(
    "records_in_flight", "gauge", "records", "client", "Records whose outcome is not known yet.",
)  # fmt: skip
RECORDS_IN_FLIGHT_LIMIT = _metric(
    "records_in_flight_limit", "gauge", "records", "client", "The option `max_in_flight`: at that many, sending waits.",
)  # fmt: skip
QUEUE_BYTES = _metric(
    "queue_bytes", "gauge", "bytes", "client", "Bytes of the records in flight.", statistics=True,
)  # fmt: skip
QUEUE_LIMIT_BYTES = _metric(
    "queue_limit_bytes", "gauge", "bytes", "client",
    "librdkafka's `queue.buffering.max.kbytes`: at that many, sending waits.", statistics=True,
)  # fmt: skip
SEND_BATCH_RECORDS = _metric(
    "send_batch_records", "histogram", "records", "client", "Records in one call of `send_batch`.",
)  # fmt: skip
DELIVERY_LATENCY = _metric(
    "delivery_latency_seconds", "histogram", "seconds", "client",
    "From handing a record over to its delivery report. Reports come for many records at once: the time of the first, "
    "which waited longest, counts for all.",
)  # fmt: skip
# -- receiving
RECORDS_CONSUMED = _metric(
    "records_consumed_total", "counter", "records", "client group topic", "Records that polls have returned.",
)  # fmt: skip
POLL_RECORDS = _metric(
    "poll_records", "histogram", "records", "client group", "Records returned by one poll that found some.",
)  # fmt: skip
LAG_RECORDS = _metric(
    "lag_records", "gauge", "records", "client group topic partition",
    "Records on the log that this member has not polled, as of its last fetch; for assigned partitions, from the first "
    "record on.",
)  # fmt: skip
ASSIGNED_PARTITIONS = _metric(
    "assigned_partitions", "gauge", "partitions", "client group", "Partitions that are these members'.",
)  # fmt: skip
REBALANCES = _metric(
    "rebalances_total", "counter", "rebalances", "client group event", "Times that the group gave or took partitions.",
)  # fmt: skip
COMMIT_LATENCY = _metric(
    "commit_latency_seconds", "histogram", "seconds", "client group",
    "From sending offsets to the group's coordinator to its answer, of commits that were waited for.",
)  # fmt: skip
COMMIT_FAILURES = _metric(
    "commit_failures_total", "counter", "commits", "client group reason", "Commits of offsets that failed.",
)  # fmt: skip
# -- handling notifications
NOTIFICATIONS_HANDLED = _metric(
    "notifications_handled_total", "counter", "notifications", "group",
    "Notifications whose endpoints were done with them; one that no endpoint wants is.",
)  # fmt: skip
NOTIFICATIONS_FAILED = _metric(
    "notifications_failed_total", "counter", "notifications", "group", "Notifications on which an endpoint raised.",
)  # fmt: skip
NOTIFICATIONS_REFUSED = _metric(
    "notifications_refused_total", "counter", "notifications", "group",
    "Notifications that an endpoint wanted again where that cannot be (`settle=\"before\"`).",
)  # fmt: skip
RECORDS_REQUEUED = _metric(
    "records_requeued_total", "counter", "records", "group", "Records that will be handed out again.",
)  # fmt: skip
# -- what cannot be handled
RECORDS_DEAD_LETTERED = _metric(
    "records_dead_lettered_total", "counter", "records", "group",
    "Records kept as dead letters: no notification, refused by the database, or handed out too often.",
)  # fmt: skip
RECORDS_SKIPPED = _metric(
    "records_skipped_total", "counter", "records", "group",
    "The same where no place for dead letters is set: logged and let go.",
)  # fmt: skip
# -- storing
RECORDS_STORED = _metric(
    "records_stored_total", "counter", "records", "group", "Rows that a persister has added to its database.",
)  # fmt: skip
RECORDS_DUPLICATE = _metric(
    "records_duplicate_total", "counter", "records", "group", "Rows left out because they were there already.",
)  # fmt: skip
STORE_LATENCY = _metric(
    "store_latency_seconds", "histogram", "seconds", "group",
    "One transaction of a persister: rows and offsets, to its commit.",
)  # fmt: skip
STORE_RETRIES = _metric(
    "store_retries_total", "counter", "tries", "group", "Tries of the database or the dead letters that failed.",
)  # fmt: skip
# -- brokers
BROKER_CONNECTED = _metric(
    "broker_connected", "gauge", "", "client broker",
    "1 while this client is connected with the broker, 0 while it tries to be.", merge="min", statistics=True,
)  # fmt: skip
BROKER_ROUND_TRIP = _metric(
    "broker_round_trip_seconds", "gauge", "seconds", "client broker quantile",
    "From sending a request to its answer; an idle fetch waits 0.5 s for records.", merge="max", statistics=True,
)  # fmt: skip
BROKER_THROTTLE = _metric(
    "broker_throttle_seconds", "gauge", "seconds", "client broker",
    "The longest time for which the broker's quotas held an answer back, since the statistics before.",
    merge="max", statistics=True,
)  # fmt: skip


class Source(Protocol):
    """Somebody who counts, and is asked when metrics are collected. It must not keep its owner alive."""

    def samples(self) -> Iterable[Sample]:
        """All counted so far, as counters and histograms; gauges as they are now. Must not wait, nor raise."""

    @property
    def final(self) -> bool:
        """Whether nothing will change any more, once its owner is gone."""


class Fields:
    """Counts that stand in the attributes of an object."""

    final = True

    def __init__(self, counts: object, fields: Mapping[str, Metric], *labels: str) -> None:
        self._counts, self._fields, self._labels = counts, fields, labels

    def samples(self) -> Iterator[Sample]:
        """One sample for each attribute."""
        for name, metric in self._fields.items():
            yield Sample(metric, self._labels, getattr(self._counts, name))


_Key: TypeAlias = "tuple[Metric, tuple[str, ...]]"
_Value: TypeAlias = "float | Distribution"
_MERGES: dict[Merge, Callable[[float, float], float]] = {"sum": lambda one, other: one + other, "max": max, "min": min}


class _Registry:
    """The sources of this process, and what those that are gone have counted."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin at zero: also in a forked child, whose parent goes on counting."""
        # Reentrant: a garbage collection inside may run code that makes or ends a client.
        self._lock = threading.RLock()
        self._sources: list[tuple[weakref.ref[object], Source]] = []
        self._totals: dict[_Key, _Value] = {}

    def register(self, owner: object, source: Source) -> None:
        """Ask ``source`` from now on; what it has counted is kept when its owner is gone and it is final."""
        with self._lock:
            self._let_go()
            self._sources.append((weakref.ref(owner), source))

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """Count something that happens once a batch or more seldom."""
        with self._lock:
            _merge(self._totals, Sample(metric, labels, amount))

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Count one observation of a histogram."""
        counts = [0] * (len(metric.buckets) + 1)
        counts[bisect_left(metric.buckets, value)] = 1
        with self._lock:
            _merge(self._totals, Sample(metric, labels, Distribution(tuple(counts), value)))

    def collect(self) -> list[Sample]:
        """Every metric that has a value, in the order of :data:`METRICS`. Never waits for a broker."""
        with self._lock:
            self._let_go()
            merged = dict(self._totals)
            sources = [source for _, source in self._sources]
        for source in sources:  # without the lock: a client that reports holds one of its own
            for sample in source.samples():
                _merge(merged, sample)
        place = {metric: number for number, metric in enumerate(METRICS)}
        return [Sample(*key, merged[key]) for key in sorted(merged, key=lambda key: (place[key[0]], key[1]))]

    def _let_go(self) -> None:
        """Keep the counts of sources whose owner is gone, and forget these."""
        for entry in tuple(self._sources):
            owner, source = entry
            if owner() is None and source.final and entry in self._sources:
                self._sources.remove(entry)
                for sample in source.samples():
                    if sample.metric.kind != "gauge":
                        _merge(self._totals, sample)


def _merge(into: dict[_Key, _Value], sample: Sample) -> None:
    key = sample.metric, sample.labels
    known, value = into.get(key), sample.value
    if known is None:
        into[key] = value
    elif isinstance(known, Distribution) and isinstance(value, Distribution):
        into[key] = Distribution(tuple(map(int.__add__, known.counts, value.counts)), known.sum + value.sum)
    elif not isinstance(known, Distribution) and not isinstance(value, Distribution):
        into[key] = _MERGES[sample.metric.merge](known, value)


_registry = _Registry()
os.register_at_fork(after_in_child=_registry.reset)
register = _registry.register
add = _registry.add
observe = _registry.observe
collect = _registry.collect


def markdown() -> Iterator[str]:
    """The tables of metrics and labels in the documentation, line by line."""
    yield "| metric | kind | labels | what |"
    yield "| --- | --- | --- | --- |"
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        needs = " Needs `statistics_interval`." if metric.statistics else ""
        yield f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help}{needs} |"
    yield ""
    yield "| label | values |"
    yield "| --- | --- |"
    for label, values in LABELS.items():
        yield f"| `{label}` | {values} |"


if __name__ == "__main__":
    print(*markdown(), sep="\n")
