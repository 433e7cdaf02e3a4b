"""OpenTelemetry: a trace goes through Kafka from the sender's span to the endpoint's, and metrics come out."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from support.waiting import until

from rdknotify import Consumer, Listener, Notifier, Persister, Producer, SQLiteSink, metrics
from rdknotify.otel import LINKS, Tracing, export_metrics
from rdknotify.testing import MockCluster
from rdknotify.tracing import TracedProducer

SOON = 30.0


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def tracing(provider: TracerProvider) -> Tracing:
    return Tracing(provider)


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def context_of(span: ReadableSpan) -> trace.SpanContext:
    assert span.context is not None
    return span.context


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return {name.removeprefix("messaging."): value for name, value in (span.attributes or {}).items()}


class Endpoint:
    """Keeps the trace in which it was called; raises if its payload says so."""

    def __init__(self) -> None:
        self.traces: list[int] = []

    def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
        self.traces.append(trace.get_current_span().get_span_context().trace_id)
        if payload.get("break"):
            raise ZeroDivisionError


class BatchEndpoint:
    def __init__(self) -> None:
        self.sizes: list[int] = []

    def info(self, notifications: list[Mapping[str, Any]]) -> None:
        self.sizes.append(len(notifications))


def test_one_trace_from_the_senders_span_to_the_endpoint(
    mock_cluster: MockCluster, provider: TracerProvider, exporter: InMemorySpanExporter, tracing: Tracing
) -> None:
    endpoint = Endpoint()
    listener = Listener(mock_cluster.url, ["n"], [endpoint], pool="billing", tracing=tracing)
    with listener, Notifier(mock_cluster.url, "p", ["n"], tracing=tracing) as notifier:
        with provider.get_tracer("test").start_as_current_span("request") as request:
            notifier.info({}, "compute.end", {})
        until(lambda: named(exporter, "process n.info"), timeout=SOON)
    trace_id = request.get_span_context().trace_id
    assert endpoint.traces == [trace_id]
    (sent,), (processed,) = named(exporter, "send n.info"), named(exporter, "process n.info")
    assert sent.kind is SpanKind.PRODUCER
    assert processed.kind is SpanKind.CONSUMER
    assert sent.parent == request.get_span_context()
    assert processed.parent is not None and processed.parent.span_id == context_of(sent).span_id
    assert [link.context.span_id for link in processed.links] == [context_of(sent).span_id]
    assert attributes(sent) == {
        "system": "kafka",
        "operation.name": "send",
        "operation.type": "send",
        "destination.name": "n.info",
    }
    got = attributes(processed)
    assert got.pop("destination.partition.id") in "0123"
    assert got == {
        "system": "kafka",
        "operation.name": "process",
        "operation.type": "process",
        "destination.name": "n.info",
        "consumer.group.name": "billing",
        "kafka.offset": 0,
    }


def test_an_endpoints_exception_is_on_its_span_and_handled_as_ever(
    mock_cluster: MockCluster, exporter: InMemorySpanExporter, tracing: Tracing
) -> None:
    listener = Listener(mock_cluster.url, ["n"], [Endpoint()], pool="g", tracing=tracing)
    with listener, Notifier(mock_cluster.url, "p", ["n"]) as notifier:
        notifier.info({}, "compute.end", {"break": True})
        (span,) = until(lambda: named(exporter, "process n.info"), timeout=SOON)
        until(lambda: listener.counts.failed, timeout=SOON)
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "ZeroDivisionError"
    assert span.parent is None and not span.links  # its sender told nothing
    assert listener.counts.failed == 1


def test_a_batch_is_sent_in_one_span_and_processed_with_links(
    mock_cluster: MockCluster, exporter: InMemorySpanExporter, tracing: Tracing
) -> None:
    endpoint = BatchEndpoint()
    with Notifier(mock_cluster.url, "p", ["n"], tracing=tracing) as notifier:
        for _ in range(2):
            notifier.notify_batch("info", [("compute.end", {})] * 10).result(SOON)
    with Listener(mock_cluster.url, ["n"], [endpoint], pool="g", batch_size=20, batch_timeout=5.0, tracing=tracing):
        until(lambda: sum(endpoint.sizes) == 20, timeout=SOON)
        until(lambda: len(named(exporter, "process n.info")) == len(endpoint.sizes), timeout=SOON)
    sent, processed = named(exporter, "send n.info"), named(exporter, "process n.info")
    assert [attributes(span)["batch.message_count"] for span in sent] == [10, 10]
    assert [attributes(span)["batch.message_count"] for span in processed] == endpoint.sizes
    linked = {link.context.span_id for span in processed for link in span.links}
    assert linked == {context_of(span).span_id for span in sent}
    assert all(span.parent is None for span in processed)


def test_a_persisters_store_is_linked_to_those_who_sent(
    mock_cluster: MockCluster, exporter: InMemorySpanExporter, tracing: Tracing, tmp_path: Any
) -> None:
    with Notifier(mock_cluster.url, "p", ["n"], tracing=tracing) as notifier:
        for _ in range(5):
            notifier.info({}, "compute.end", {})
    sink = SQLiteSink(tmp_path / "n.db", table="n")
    with Persister(mock_cluster.url, ["n.info"], sink=sink, group="g", max_wait=0.1, tracing=tracing) as persister:
        until(lambda: persister.counts.stored == 5, timeout=SOON)
    sent, processed = named(exporter, "send n.info"), named(exporter, "process n.info")
    linked = {link.context.span_id for span in processed for link in span.links}
    assert linked == {context_of(span).span_id for span in sent}
    assert len(sent) == 5


def test_a_consumers_batch_can_be_followed_and_headers_of_ones_own_stay(
    mock_cluster: MockCluster, exporter: InMemorySpanExporter, tracing: Tracing
) -> None:
    count = LINKS + 10
    with TracedProducer(mock_cluster.url, tracing=tracing) as producer:
        producer.send_batch("t", [b"v"], headers={"own": b"1"}).result(SOON)
        producer.send_batch("t", [b"v"] * 2, headers=[[("own", b"2")], None]).result(SOON)
        producer.deliver("t", [b"v"], headers={"own": b"3"})
        for _ in range(count):
            producer.send("t", b"v", headers=[("own", b"4"), ("own", b"5")])
        producer.flush(SOON)
    records = []
    with Consumer(mock_cluster.url, ["t"], "g") as consumer:
        while len(records) < count + 4:
            batch = until(lambda: consumer.poll(1000, 1.0), timeout=SOON)
            with tracing.processing(batch, "g"):
                records += list(batch)
    assert sorted(b"".join(value for name, value in each.headers if name == "own" and value) for each in records) == [
        b"", b"1", b"2", b"3", *[b"45"] * count
    ]  # fmt: skip
    assert all([name for name, _ in record.headers].count("traceparent") == 1 for record in records)
    spans = named(exporter, "process t")
    assert sum(attributes(span).get("batch.message_count", 1) for span in spans) == count + 4
    assert max(len(span.links) for span in spans) <= LINKS


def test_headers_that_are_no_context_are_passed_over(
    mock_cluster: MockCluster, exporter: InMemorySpanExporter, tracing: Tracing
) -> None:
    bad = [b"", None, b"\xff\xfe", b"00-zz-zz-01", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"x" * 100_000]
    with Producer(mock_cluster.url) as producer, Consumer(mock_cluster.url, ["t"], "g") as consumer:
        producer.send_batch("t", [b"v"] * len(bad), headers=[{"traceparent": value} for value in bad]).result(SOON)
        seen = 0
        while seen < len(bad):
            batch = until(lambda: consumer.poll(1000, 1.0), timeout=SOON)
            with tracing.processing(batch):
                seen += len(batch)
    assert not any(span.links for span in exporter.get_finished_spans())


def test_metrics_appear_by_opentelemetrys_names(mock_cluster: MockCluster) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    export_metrics(provider)
    group = f"otel-{time.monotonic_ns()}"
    with Producer(mock_cluster.url, config={"client.id": group}) as producer:
        producer.send_batch("t", [b"v"] * 50).result(SOON)
    metrics.add(metrics.RECORDS_STORED, 100, group)
    for seconds in (0.002, 0.002, 1000.0):
        metrics.observe(metrics.STORE_LATENCY, seconds, group)
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    points = {
        (metric.name, point.attributes.get("le")): (metric.unit, point.value)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if point.attributes and group in (point.attributes.get("group"), point.attributes.get("client"))
    }
    assert points["rdknotify.records_delivered", None] == ("{records}", 50)
    assert points["rdknotify.delivery_latency.count", None] == ("{observations}", 50)
    assert points["rdknotify.records_stored", None] == ("{records}", 100)
    assert points["rdknotify.store_latency.count", None] == ("{observations}", 3)
    assert points["rdknotify.store_latency.sum", None] == ("s", pytest.approx(1000.004))
    buckets = [value for (name, _), (_, value) in points.items() if name == "rdknotify.store_latency.bucket"]
    assert buckets == sorted(buckets) and len(buckets) == len(metrics.STORE_LATENCY.buckets) + 1
    assert points["rdknotify.store_latency.bucket", "0.001"][1] == 0
    assert points["rdknotify.store_latency.bucket", "0.0025"][1] == 2
    assert points["rdknotify.store_latency.bucket", "+Inf"][1] == 3


def test_every_metric_has_an_instrument_and_a_unit() -> None:
    names: dict[str, str] = {}

    class Meter:
        def __getattr__(self, kind: str) -> Any:
            return lambda name, callbacks, unit, description: names.update({name: unit})

    class Provider:
        def get_meter(self, *args: Any, **kwargs: Any) -> Any:
            return Meter()

    export_metrics(Provider())  # type: ignore[arg-type]
    histograms = sum(metric.kind == "histogram" for metric in metrics.METRICS)
    assert len(names) == len(metrics.METRICS) + 2 * histograms
    assert all(names.values())
    assert names["rdknotify.queue"] == "By"
    assert names["rdknotify.delivery_latency.sum"] == "s"


def test_neither_opentelemetry_nor_prometheus_is_imported_unless_asked_for(mock_cluster: MockCluster) -> None:
    program = f"""
        import sys, threading
        import rdknotify
        from rdknotify import metrics

        for name in rdknotify.__all__:
            getattr(rdknotify, name)

        url, seen = {mock_cluster.url!r}, threading.Event()
        class Endpoint:
            def info(self, *notification):
                seen.set()
        with rdknotify.Listener(url, ["n"], [Endpoint()], pool="g"), rdknotify.Notifier(url, "p", ["n"]) as notifier:
            notifier.info({{}}, "compute.end", {{}})
            assert seen.wait(30)
            metrics.collect()
        sink = rdknotify.SQLiteSink(":memory:", table="n")
        with rdknotify.Persister(url, ["n.info"], sink=sink, group="p"):
            pass
        loaded = [name for name in sys.modules if name.startswith(("opentelemetry", "prometheus_client"))]
        assert not loaded, loaded
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_one_tracing_serves_several_threads(
    mock_cluster: MockCluster, exporter: InMemorySpanExporter, tracing: Tracing
) -> None:
    with Notifier(mock_cluster.url, "p", ["n"], tracing=tracing) as notifier:
        threads = [threading.Thread(target=lambda: [notifier.info({}, "e", {}) for _ in range(100)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        notifier.flush(SOON)
    sent = named(exporter, "send n.info")
    assert len({context_of(span).trace_id for span in sent}) == 400
