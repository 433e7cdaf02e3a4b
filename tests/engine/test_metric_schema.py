"""Monasca's metrics: from what its API publishes to rows of both databases; what is none is poison with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from support.database import ask
from support.persisting import QUICK, SOON
from support.postgres import query
from support.waiting import until

from rdknotify import Persister, PostgresSink, Producer, SQLiteSink
from rdknotify.deadletter import read_dead_letters
from rdknotify.sinks import METRIC
from rdknotify.testing import MockCluster

TOPIC = "metrics"
NOW = 1_700_000_000_123
COLUMNS = "tenant_id, region, name, dimensions, timestamp, value, value_meta, creation_time"


def metric(**changes: Any) -> dict[str, Any]:
    measured = {
        "name": "cpu.user_perc",
        "dimensions": {"hostname": "compute-1", "Ä": "ü"},
        "timestamp": NOW,
        "value": 0.5,
        "value_meta": {"rc": "1", "msg": "naïve"},
    }
    return {"metric": measured | changes, "meta": {"tenantId": "t1", "region": "RegionOne"}, "creation_time": 1.7e9}


def without(*path: str) -> dict[str, Any]:
    message: Any = metric()
    inner = message
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return message


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        cluster.create_topic(TOPIC, partitions=1)
        yield cluster


def persist(cluster: MockCluster, sink: Any, messages: list[Any], **options: Any) -> Persister:
    """Send these and store them; what is bytes is sent as it is."""
    values = [each if isinstance(each, bytes) else json.dumps(each) for each in messages]
    with Producer(cluster.url) as producer:
        producer.send_batch(TOPIC, values).result(SOON).raise_for_failures()
    config = {"group": "g", "max_wait": 0.05, "config": QUICK, **options}
    with Persister(cluster.url, [TOPIC], sink=sink, schema=METRIC, **config) as running:
        until(lambda: running.counts.stored + running.counts.poison == len(messages), timeout=SOON)
    return running


def test_measurements_are_rows_of_sqlite(cluster: MockCluster, tmp_path: Path) -> None:
    bare = without("metric", "value_meta")
    bare["metric"] |= {"dimensions": None, "value": 3, "timestamp": NOW + 0.4}
    bare["creation_time"] = None
    persist(cluster, SQLiteSink(tmp_path / "m.db", "measurements"), [metric(), bare])
    assert ask(tmp_path / "m.db", f"SELECT {COLUMNS} FROM measurements") == [
        (
            "t1",
            "RegionOne",
            "cpu.user_perc",
            '{"hostname":"compute-1","Ä":"ü"}',
            "2023-11-14 22:13:20.123",
            0.5,
            '{"msg":"naïve","rc":"1"}',
            1.7e9,
        ),
        ("t1", "RegionOne", "cpu.user_perc", "{}", "2023-11-14 22:13:20.123", 3.0, None, None),
    ]


def test_measurements_are_rows_of_postgres(cluster: MockCluster, dsn: str) -> None:
    persist(cluster, PostgresSink(dsn, "measurements"), [metric(), metric(value_meta={}, timestamp=-1, value=-0.0)])
    first = datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=timezone.utc)
    assert query(dsn, f"SELECT {COLUMNS} FROM measurements ORDER BY value DESC") == [
        (
            "t1",
            "RegionOne",
            "cpu.user_perc",
            metric()["metric"]["dimensions"],
            first,
            0.5,
            metric()["metric"]["value_meta"],
            1.7e9,
        ),
        (
            "t1",
            "RegionOne",
            "cpu.user_perc",
            metric()["metric"]["dimensions"],
            datetime(1970, 1, 1, tzinfo=timezone.utc) - timedelta(milliseconds=1),
            0.0,
            None,
            1.7e9,
        ),
    ]
    by_host = "SELECT count(*) FROM measurements WHERE dimensions->>'hostname' = 'compute-1'"
    assert query(dsn, by_host) == [(2,)]


POISON = [
    (b"", "truncated"),
    (b"no json", "malformed"),
    (b"[]", "Expected `object`"),
    ([metric()], "Expected `object`, got `array`"),
    (b'{"metric": {"name": "\xff"}}', "utf-8"),
    (without("metric"), "missing required field `metric`"),
    (without("meta"), "missing required field `meta`"),
    (without("meta", "tenantId"), "missing required field `tenantId`"),
    (without("metric", "timestamp"), "missing required field `timestamp`"),
    (metric(name=7), "Expected `str`, got `int` - at `$.metric.name`"),
    (metric(value="0.5"), "Expected `float`, got `str` - at `$.metric.value`"),
    (metric(value=True), "Expected `float`, got `bool` - at `$.metric.value`"),
    (metric(value=None), "Expected `float`, got `null` - at `$.metric.value`"),
    (metric(value=float("nan")), "malformed"),
    (metric(value=10**400), "$.metric.value"),
    (metric(timestamp="2023-11-14"), "Expected `float`, got `str` - at `$.metric.timestamp`"),
    (metric(timestamp=1e300), "metric.timestamp=1e+300 is no time"),
    (metric(timestamp=-1e15), "metric.timestamp=-1e+15 is no time"),
    (metric(dimensions=["a"]), "Expected `object | null`, got `array` - at `$.metric.dimensions`"),
    (metric(dimensions={"a": 1}), "Expected `str`, got `int` - at `$.metric.dimensions"),
    (metric(value_meta="x"), "at `$.metric.value_meta`"),
    ({**metric(), "creation_time": "now"}, "at `$.creation_time`"),
    (b'{"metric":{"value_meta":' + b'{"a":' * 20_000, "RecursionError"),
]


def test_what_is_no_measurement_is_poison_and_says_why(cluster: MockCluster, tmp_path: Path) -> None:
    messages = [metric(), *(message for message, _ in POISON), metric()]
    dead = tmp_path / "dead.jsonl"
    running = persist(cluster, SQLiteSink(tmp_path / "m.db"), messages, dead_letter=dead)
    assert (running.counts.stored, running.counts.poison) == (2, len(POISON))
    for (message, reason), entry in zip(POISON, read_dead_letters(dead), strict=True):
        assert reason.lower() in entry["reason"].lower(), f"{message!r:.80}: {entry['reason']}"
