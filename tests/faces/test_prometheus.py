"""A scrape by Prometheus: every metric of the table in its text format."""

from __future__ import annotations

import urllib.request

import pytest
from support.waiting import until

pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rdknotify import Producer, metrics
from rdknotify.errors import ConfigError
from rdknotify.metrics import METRICS, Distribution, Sample
from rdknotify.prometheus import RdNotifyCollector, serve


def scraped(server):
    """The values that a Prometheus finds: by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples
    }


@pytest.fixture
def server():
    with serve(0, registry=CollectorRegistry()) as server:
        yield server


def test_a_scrape_shows_what_a_client_did(server, mock_cluster):
    client = ("client", "scraped")
    with Producer(mock_cluster.url, config={"client.id": "scraped"}) as producer:
        producer.send_batch("t", [b"v"] * 20).result(30)
        delivered = ("rdknotify_records_delivered_total", client, ("topic", "t"))
        found = until(lambda: (values := scraped(server)).get(delivered) == 20 and values)
    assert found["rdknotify_records_sent_total", client, ("topic", "t")] == 20
    assert found["rdknotify_open_clients", client] == 1
    assert found["rdknotify_send_batch_records_bucket", client, ("le", "10.0")] == 0
    assert found["rdknotify_send_batch_records_bucket", client, ("le", "30.0")] == 1
    assert found["rdknotify_send_batch_records_bucket", client, ("le", "+Inf")] == 1
    assert found["rdknotify_send_batch_records_count", client] == 1
    assert found["rdknotify_send_batch_records_sum", client] == 20
    after = scraped(server)
    assert after[delivered] == 20
    assert ("rdknotify_open_clients", client) not in after


def test_every_metric_is_shown_under_its_name_with_its_kind(monkeypatch):
    def one_of_each():
        for metric in METRICS:
            many = Distribution((1,) * (len(metric.buckets) + 1), 2.0)
            yield Sample(metric, metric.labels, many if metric.kind == "histogram" else 1)

    monkeypatch.setattr("rdknotify.prometheus.collect", one_of_each)
    registry = CollectorRegistry()
    registry.register(RdNotifyCollector())
    text = generate_latest(registry).decode()
    for metric in METRICS:
        assert f"# TYPE {metric.name} {metric.kind}\n" in text
        assert f"# HELP {metric.name} " in text
    families = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    of_histograms = [f"{m.name}_{part}" for m in METRICS if m.buckets for part in ("bucket", "count", "sum")]
    assert families == {m.name for m in METRICS if not m.buckets} | set(of_histograms)


def test_a_registry_takes_it_once_and_keeps_it():
    registry = CollectorRegistry()
    with serve(0, registry=registry), serve(0, registry=registry) as second:
        metrics.add(metrics.RECORDS_SKIPPED, 1, "once")
        assert scraped(second)["rdknotify_records_skipped_total", ("group", "once")] >= 1


def test_a_port_that_is_taken_is_named(server):
    with pytest.raises(ConfigError, match=f"{server.port}.*choose another port"):
        serve(server.port, registry=CollectorRegistry())
