"""What a client tells to :mod:`rdknotify.metrics`: the core's counts, librdkafka's statistics, and its own gauges."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from rdknotify import _rdknotify as core
from rdknotify import metrics
from rdknotify.errors import KafkaError, RdNotifyError
from rdknotify.events import ClientEvents
from rdknotify.metrics import Distribution, Metric, Sample
from rdknotify.options import Settings

__all__ = ["Measured", "timed_commit", "watch"]

_QUANTILES = {"p50": "0.5", "p99": "0.99"}


class Measured(Protocol):
    """A client whose counts are collected."""

    events: ClientEvents

    @property
    def closed(self) -> bool: ...


def watch(client: Measured, handle: core.Client, settings: Settings) -> None:
    """Collect this client's counts from now on. It is held weakly; its counts are kept."""
    metrics.register(client, _ClientSource(client, handle.meter, settings))


@contextmanager
def timed_commit(*labels: str, waited: bool) -> Iterator[None]:
    """Count a commit of offsets: how long it took if its answer was waited for, or why it failed."""
    begun = time.monotonic()
    try:
        yield
    except KafkaError as error:
        metrics.add(metrics.COMMIT_FAILURES, 1, *labels, error.name)
        raise
    if waited:
        metrics.observe(metrics.COMMIT_LATENCY, time.monotonic() - begun, *labels)


class _ClientSource:
    def __init__(self, client: Measured, meter: core.Meter, settings: Settings) -> None:
        self._client = weakref.ref(client)
        self._meter = meter
        self._name = client.events.client_id
        self._sends = settings.role == "producer"
        self._group = str(settings.values.get("consumer_group", ""))
        self._limit: int = settings.values.get("max_in_flight", 0)

    @property
    def final(self) -> bool:
        return self._meter.final

    def samples(self) -> Iterator[Sample]:
        counted, labels = self._meter.read(), (self._name, self._group)
        for topic, (sent, delivered, failed) in counted.sending.items():
            if sent:  # a topic may have been asked for only
                yield Sample(metrics.RECORDS_SENT, (self._name, topic), sent)
                yield Sample(metrics.RECORDS_DELIVERED, (self._name, topic), delivered)
            for reason, count in failed.items():
                yield Sample(metrics.RECORDS_FAILED, (self._name, topic, reason), count)
        for topic, count in counted.consumed.items():
            yield Sample(metrics.RECORDS_CONSUMED, (*labels, topic), count)
        sizes = Distribution(counted.sizes[0], counted.sizes[1])
        if self._sends:
            yield Sample(metrics.SEND_BATCH_RECORDS, (self._name,), sizes)
            latency = Distribution(counted.latency[0], counted.latency[1] / 1e6)
            yield Sample(metrics.DELIVERY_LATENCY, (self._name,), latency)
        elif self._group:
            yield Sample(metrics.POLL_RECORDS, labels, sizes)
        client = self._client()
        if client is None or client.closed:
            return
        yield Sample(metrics.OPEN_CLIENTS, (self._name,), 1)
        if self._sends:
            yield Sample(metrics.RECORDS_IN_FLIGHT, (self._name,), counted.in_flight)
            yield Sample(metrics.RECORDS_IN_FLIGHT_LIMIT, (self._name,), self._limit)
        with suppress(RdNotifyError):  # closed by another thread in the meantime
            yield from self._backlog(client)
        yield from self._statistics(client.events.statistics or {})

    def _backlog(self, client: Any) -> Iterator[Sample]:
        """Of a member of a consumer group."""
        known = getattr(client, "known_lag", None)
        if known is None:
            return
        assigned, lag = known()
        yield Sample(metrics.ASSIGNED_PARTITIONS, (self._name, self._group), assigned)
        for (topic, partition), records in lag.items():
            yield Sample(metrics.LAG_RECORDS, (self._name, self._group, topic, str(partition)), records)

    def _statistics(self, statistics: Mapping[str, Any]) -> Iterator[Sample]:
        def of(metric: Metric, value: float, *labels: str) -> Sample:
            return Sample(metric, (self._name, *labels), value)

        if self._sends and statistics:
            yield of(metrics.QUEUE_BYTES, statistics["msg_size"])
            yield of(metrics.QUEUE_LIMIT_BYTES, statistics["msg_size_max"])
        for broker in statistics.get("brokers", {}).values():
            # An address of the URL has no number yet; a coordinator is there twice.
            if broker["nodeid"] < 0 or broker["source"] == "logical":
                continue
            number = str(broker["nodeid"])
            if broker["state"] != "INIT":  # not needed so far, or no more
                yield of(metrics.BROKER_CONNECTED, float(broker["state"] == "UP"), number)
            if broker["rtt"]["cnt"]:
                for name, quantile in _QUANTILES.items():
                    yield of(metrics.BROKER_ROUND_TRIP, broker["rtt"][name] / 1e6, number, quantile)
            yield of(metrics.BROKER_THROTTLE, broker["throttle"]["max"] / 1e3, number)
