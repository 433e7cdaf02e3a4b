"""OpenTelemetry (extra ``otel``): traces that go through Kafka, and the metrics of :mod:`rdknotify.metrics`.

Nothing else of rdknotify imports OpenTelemetry. Names follow its semantic conventions for messaging.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from opentelemetry import metrics as otel_metrics
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Link, SpanContext, SpanKind, TracerProvider
from opentelemetry.util.types import AttributeValue

from rdknotify import __version__
from rdknotify.metrics import METRICS, Distribution, Metric, Sample, collect
from rdknotify.provenance import HeaderList, ReadRecord

__all__ = ["Tracing", "export_metrics"]

LINKS = 128
"""Producers' contexts that one span links to at most, as OpenTelemetry's SDK has it."""

_NAME = "rdknotify"
_FRESH = 0.1
"""Seconds for which all instruments of one export share what was collected."""
_UNITS = {"seconds": "s", "bytes": "By", "": "1"}


class Tracing:
    """For the argument ``tracing=`` of a Notifier, Listener or Persister. Thread-safe, and one serves all.

    Sending makes a span of kind PRODUCER around each call, one for a whole batch, and puts its context into the
    headers of the records, by the propagator that is set for the process (by default W3C's ``traceparent``,
    ``tracestate`` and ``baggage``). It ends when the records are in the local queue: their outcomes tell the rest.

    Handling makes a span of kind CONSUMER: around the endpoints of one notification, as a child of the sender's span;
    or around a batch of them, or a persister's store, with a link to each sender's span, :data:`LINKS` at most.

    ``tracer_provider``: None is OpenTelemetry's own, at the time of this call.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer(_NAME, __version__, tracer_provider)

    @contextmanager
    def sending(self, topic: str, count: int | None) -> Iterator[Mapping[str, str]]:
        """Around one call that hands over a record (``count`` is None) or a batch; gives the headers to send along."""
        attributes: dict[str, AttributeValue] = {"messaging.destination.name": topic}
        if count is not None:
            attributes["messaging.batch.message_count"] = count
        with self._span("send", topic, SpanKind.PRODUCER, attributes):
            headers: dict[str, str] = {}
            propagate.inject(headers)
            yield headers

    @contextmanager
    def processing(self, records: Iterable[ReadRecord], group: str = "") -> Iterator[None]:
        """Around what is done with records: also for those of a Consumer's batch, in the ``with`` of your loop."""
        found = _Found()
        for record in records:
            found.add(record)
        attributes: dict[str, AttributeValue] = {"messaging.consumer.group.name": group} if group else {}
        topic = found.topics.pop() if len(found.topics) == 1 else ""
        if topic:
            attributes["messaging.destination.name"] = topic
        if found.count == 1 and found.first is not None:
            attributes["messaging.destination.partition.id"] = str(found.first.partition)
            attributes["messaging.kafka.offset"] = found.first.offset
        else:
            attributes["messaging.batch.message_count"] = found.count
        parent = found.context if found.count == 1 else None
        with self._span("process", topic, SpanKind.CONSUMER, attributes, parent, found.links):
            yield

    @contextmanager
    def _span(
        self,
        operation: str,
        topic: str,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
        parent: Context | None = None,
        links: Iterable[Link] = (),
    ) -> Iterator[None]:
        attributes |= {"messaging.operation.name": operation, "messaging.operation.type": operation}
        attributes["messaging.system"] = "kafka"
        name = f"{operation} {topic}".rstrip()
        with self._tracer.start_as_current_span(name, parent, kind, attributes, list(links)) as span:
            try:
                yield
            except BaseException as error:
                span.set_attribute("error.type", type(error).__qualname__)
                raise


class _Headers(Getter[HeaderList]):
    """Reads a record's headers for a propagator."""

    def get(self, carrier: HeaderList, key: str) -> list[str] | None:
        return [
            value.decode("utf-8", "replace") for name, value in carrier if name == key and value is not None
        ] or None

    def keys(self, carrier: HeaderList) -> list[str]:
        return [name for name, _ in carrier]


_getter = _Headers()


class _Found:
    """What a span says of the records that it is about."""

    def __init__(self) -> None:
        self.count = 0
        self.topics: set[str] = set()
        self.first: ReadRecord | None = None
        self.context: Context | None = None
        self._senders: dict[tuple[int, int], SpanContext] = {}

    @property
    def links(self) -> list[Link]:
        return [Link(sender) for sender in self._senders.values()]

    def add(self, record: ReadRecord) -> None:
        self.count += 1
        self.topics.add(record.topic)
        self.first = self.first or record
        if len(self._senders) >= LINKS or not (headers := record.headers):
            return
        context = propagate.extract(headers, getter=_getter)
        sender = trace.get_current_span(context).get_span_context()
        if sender.is_valid and sender.is_remote:
            self._senders[sender.trace_id, sender.span_id] = sender
            self.context = context


def export_metrics(meter_provider: MeterProvider | None = None) -> None:
    """Give OpenTelemetry every metric of :data:`rdknotify.metrics.METRICS`, read when it collects. Once a process.

    ``rdknotify_records_sent_total`` is the counter ``rdknotify.records_sent`` there, and so on: units stand beside the
    name, so that an exporter for Prometheus comes to the same one. OpenTelemetry has no histograms that are read, so a
    histogram is three counters: ``.count``, ``.sum``, and ``.bucket`` with the attribute ``le``, cumulative.
    """
    meter = otel_metrics.get_meter(_NAME, __version__, meter_provider)
    recent = _Recent()
    for metric in METRICS:
        name, unit = _name(metric), _UNITS.get(metric.unit, f"{{{metric.unit}}}")
        told = {"unit": unit, "description": metric.help}
        if metric.kind == "gauge":
            meter.create_observable_gauge(name, [partial(_values, recent, metric)], **told)
        elif metric.kind == "counter":
            meter.create_observable_counter(name, [partial(_values, recent, metric)], **told)
        else:
            meter.create_observable_counter(f"{name}.sum", [partial(_sums, recent, metric)], **told)
            told["unit"] = "{observations}"
            meter.create_observable_counter(f"{name}.count", [partial(_counts, recent, metric)], **told)
            meter.create_observable_counter(f"{name}.bucket", [partial(_buckets, recent, metric)], **told)


def _name(metric: Metric) -> str:
    name = metric.name.removesuffix("_total")
    if metric.unit in _UNITS:
        name = name.removesuffix(f"_{metric.unit}")
    return name.replace("_", ".", 1)


class _Recent:
    """What was collected last: one export asks once for each instrument."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._samples: dict[Metric, list[Sample]] = {}

    def of(self, metric: Metric) -> list[Sample]:
        with self._lock:
            if time.monotonic() > self._until:
                self._samples = {}
                for sample in collect():
                    self._samples.setdefault(sample.metric, []).append(sample)
                self._until = time.monotonic() + _FRESH
            return self._samples.get(metric, [])


def _attributes(sample: Sample) -> dict[str, AttributeValue]:
    return dict(zip(sample.metric.labels, sample.labels, strict=True))


def _values(recent: _Recent, metric: Metric, options: CallbackOptions) -> Iterator[Observation]:
    for sample in recent.of(metric):
        if not isinstance(sample.value, Distribution):
            yield Observation(sample.value, _attributes(sample))


def _distributions(recent: _Recent, metric: Metric) -> Iterator[tuple[dict[str, AttributeValue], Distribution]]:
    for sample in recent.of(metric):
        if isinstance(sample.value, Distribution):
            yield _attributes(sample), sample.value


def _sums(recent: _Recent, metric: Metric, options: CallbackOptions) -> Iterator[Observation]:
    for attributes, value in _distributions(recent, metric):
        yield Observation(value.sum, attributes)


def _counts(recent: _Recent, metric: Metric, options: CallbackOptions) -> Iterator[Observation]:
    for attributes, value in _distributions(recent, metric):
        yield Observation(sum(value.counts), attributes)


def _buckets(recent: _Recent, metric: Metric, options: CallbackOptions) -> Iterator[Observation]:
    bounds = [*(f"{bound:g}" for bound in metric.buckets), "+Inf"]
    for attributes, value in _distributions(recent, metric):
        reached = 0
        for bound, count in zip(bounds, value.counts, strict=True):
            reached += count
            yield Observation(reached, {**attributes, "le": bound})
