"""Prometheus (extra ``prometheus``): :mod:`rdknotify.metrics` for a registry of ``prometheus_client``, or on a port.

Nothing else of rdknotify imports ``prometheus_client``. Metrics are collected when Prometheus scrapes, not before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate, groupby
from operator import attrgetter
from typing import TypeAlias

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import REGISTRY, Collector
from prometheus_client.utils import floatToGoString

from rdknotify.errors import ConfigError
from rdknotify.metrics import METRICS, Distribution, Metric, Sample, collect

__all__ = ["RdNotifyCollector", "Server", "serve"]

_Numbers: TypeAlias = CounterMetricFamily | GaugeMetricFamily
_KINDS: dict[str, type[_Numbers]] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


class RdNotifyCollector(Collector):
    """All metrics of this process: ``prometheus_client.REGISTRY.register(RdNotifyCollector())``. Thread-safe."""

    def describe(self) -> Iterator[Family]:
        """The metrics without values, for a registry that checks names; collects nothing."""
        for metric in METRICS:
            yield _family(metric, ())

    def collect(self) -> Iterator[Family]:
        """What :func:`rdknotify.metrics.collect` returns, now."""
        for metric, samples in groupby(collect(), attrgetter("metric")):
            yield _family(metric, tuple(samples))


class Server:
    """What :func:`serve` has started; a context manager that is closed at the end."""

    def __init__(self, port: int, address: str, registry: CollectorRegistry) -> None:
        try:
            self._server, self._thread = start_http_server(port, address, registry)
        except OSError as error:
            text = f"metrics cannot be served on {address}:{port}: {error.strerror}; choose another port or address"
            raise ConfigError(text) from error
        self.port: int = self._server.server_port
        """Where it listens, also when it was told to choose one."""

    def close(self) -> None:
        """Stop listening. Idempotent."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(port: int, address: str = "127.0.0.1", registry: CollectorRegistry = REGISTRY) -> Server:
    """Serve ``/metrics`` by HTTP, in a daemon thread: rdknotify's metrics, and the rest of the registry.

    The default address is for a Prometheus, or its agent, on the same machine; ``"0.0.0.0"`` is for all: the page is
    neither encrypted nor protected. Port 0 chooses one. A collector that is registered already stays.

    Raises ConfigError: the port cannot be listened on.
    """
    with suppress(ValueError):  # there already: a registry takes no name twice
        registry.register(RdNotifyCollector())
    return Server(port, address, registry)


def _family(metric: Metric, samples: Sequence[Sample]) -> Family:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
        for sample in samples:
            assert isinstance(sample.value, Distribution)
            cumulative = accumulate(sample.value.counts)
            histogram.add_metric(sample.labels, [*zip(bounds, cumulative, strict=True)], sample.value.sum)
        return histogram
    family: _Numbers = _KINDS[metric.kind](metric.name, metric.help, labels=metric.labels)
    for sample in samples:
        assert not isinstance(sample.value, Distribution)
        family.add_metric(sample.labels, sample.value)
    return family
