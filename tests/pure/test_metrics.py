"""The table of metrics, and how what several sources have counted becomes one."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from rdknotify import metrics
from rdknotify.metrics import LABELS, METRICS, Distribution, Fields, Sample, collect

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


@dataclass
class Counts:
    handled: int = 0


class Owner:
    """Of a source; nothing but its life matters."""


class Settling:
    """A source whose owner goes before it is final."""

    final = False
    count = 1

    def samples(self):
        yield Sample(metrics.NOTIFICATIONS_HANDLED, ("settling",), self.count)
        yield Sample(metrics.ASSIGNED_PARTITIONS, ("c", "settling"), 7)


def value(metric, *labels):
    """What is collected of one metric; None where there is no sample."""
    return {sample[:2]: sample.value for sample in collect()}.get((metric, labels))


def handled(group):
    return value(metrics.NOTIFICATIONS_HANDLED, group)


def test_names_follow_prometheus_rules():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"rdknotify_[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.help.endswith(".")
        for unit in ("seconds", "bytes"):
            assert metric.name.endswith(f"_{unit}") == (metric.unit == unit)
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert list(metric.buckets) == sorted(set(metric.buckets))


def test_every_label_is_explained_and_used():
    assert {label for metric in METRICS for label in metric.labels} == set(LABELS)


def test_the_page_has_the_table():
    assert "\n".join(metrics.markdown()) in PAGE.read_text(), "python -m rdknotify.metrics prints what belongs there"


def test_counts_of_sources_with_the_same_labels_become_one():
    owners = Owner(), Owner()
    for number, owner in enumerate(owners):
        metrics.register(owner, Fields(Counts(number + 1), {"handled": metrics.NOTIFICATIONS_HANDLED}, "together"))
    assert handled("together") == 3


def test_the_counts_of_who_is_gone_are_kept():
    owner, counts = Owner(), Counts(5)
    metrics.register(owner, Fields(counts, {"handled": metrics.NOTIFICATIONS_HANDLED}, "kept"))
    assert handled("kept") == 5
    counts.handled = 6
    del owner
    gc.collect()
    assert handled("kept") == 6
    counts.handled = 100  # nobody's any more
    assert handled("kept") == 6


def test_a_source_is_asked_until_it_is_final_and_its_gauges_go_with_it():
    owner, source = Owner(), Settling()
    metrics.register(owner, source)
    del owner
    gc.collect()
    assert handled("settling") == 1
    source.count = 9
    assert handled("settling") == 9
    source.final = True
    assert handled("settling") == 9
    source.count = 100
    assert handled("settling") == 9
    assert value(metrics.ASSIGNED_PARTITIONS, "c", "settling") is None


@pytest.mark.parametrize(("metric", "expected"), [(metrics.BROKER_THROTTLE, 3.0), (metrics.BROKER_CONNECTED, 1.0)])
def test_gauges_of_several_clients_are_merged_as_the_table_says(metric, expected):
    class Gauge:
        final = True

        def samples(self):
            yield Sample(metric, ("c", "merged"), 3.0)
            yield Sample(metric, ("c", "merged"), 1.0)

    owner = Owner()
    metrics.register(owner, Gauge())
    assert value(metric, "c", "merged") == expected


def test_an_observation_is_in_the_bucket_of_its_bound():
    bounds = metrics.STORE_LATENCY.buckets
    for seconds in (0.0, bounds[0], bounds[0] * 1.01, bounds[-1], bounds[-1] + 1):
        metrics.observe(metrics.STORE_LATENCY, seconds, "buckets")
    found = value(metrics.STORE_LATENCY, "buckets")
    assert isinstance(found, Distribution)
    assert found.counts == (2, 1, *[0] * (len(bounds) - 3), 1, 1)
    assert found.sum == pytest.approx(bounds[0] * 2.01 + 2 * bounds[-1] + 1)


def test_samples_come_in_the_order_of_the_table():
    metrics.add(metrics.RECORDS_SKIPPED, 1, "order")
    metrics.add(metrics.CLIENT_ERRORS, 1, "order", "_TRANSPORT")
    places = [METRICS.index(sample.metric) for sample in collect()]
    assert places == sorted(places)


def test_many_threads_count_and_nothing_is_lost():
    def count():
        for _ in range(500):
            metrics.add(metrics.REBALANCES, 1, "c", "threads", "assigned")
            metrics.observe(metrics.COMMIT_LATENCY, 0.01, "c", "threads")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen = []
    while any(thread.is_alive() for thread in threads):
        seen.append(value(metrics.REBALANCES, "c", "threads", "assigned") or 0)
    assert seen == sorted(seen)
    assert value(metrics.REBALANCES, "c", "threads", "assigned") == 2000
    assert sum(value(metrics.COMMIT_LATENCY, "c", "threads").counts) == 2000


def test_a_forked_child_begins_at_zero():
    metrics.add(metrics.RECORDS_SKIPPED, 3, "forked")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 2 if collect() else 3
            metrics.add(metrics.RECORDS_SKIPPED, 1, "forked")
            status = 0 if status == 3 and value(metrics.RECORDS_SKIPPED, "forked") == 1 else status
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert value(metrics.RECORDS_SKIPPED, "forked") == 3


def test_no_exporter_is_imported_unless_used():
    program = (
        "import sys, rdknotify.metrics, rdknotify.producer, rdknotify.listener, rdknotify.persister\n"
        "print([name for name in sys.modules if name.startswith(('prometheus_client', 'opentelemetry'))])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
