"""The persister over librdkafka's in-process Kafka: what becomes of each record."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from support.database import ask
from support.persisting import QUICK, SOON, TOPIC, FlakySink, names, persister, send, stored
from support.waiting import until

from rdknotify.deadletter import read_dead_letters
from rdknotify.notifier import Notifier
from rdknotify.persister import Persister
from rdknotify.producer import Producer
from rdknotify.provenance import Origin
from rdknotify.sinks.schema import Column, Schema
from rdknotify.sinks.sqlite import SQLiteSink
from rdknotify.testing import MockCluster
from rdknotify.topics import dead_letter_topic


def test_what_was_sent_is_stored_with_its_origin(cluster: MockCluster, producer: Producer, path: Path) -> None:
    sent = producer.send(TOPIC, b"value", key=b"key", headers={"trace": b"\x01"})
    assert sent.result(SOON).delivered == 1
    with persister(cluster, SQLiteSink(path)) as running:
        until(lambda: running.counts.stored == 1)
    (row,) = ask(path, 'SELECT key, value, headers, topic, "offset" FROM notifications')
    offsets = ask(path, "SELECT consumer_group, topic, next_offset FROM notifications_offsets")
    assert row == (b"key", b"value", '[["trace", "\\u0001"]]', TOPIC, 0)
    assert offsets == [("g", TOPIC, 1)]


def test_notifications_become_columns(cluster: MockCluster, path: Path) -> None:
    payload = {"id": 2**70, "text": "naïve", "none": None}
    with Notifier(cluster.url, "compute.node1", ["notifications"]) as notifier:
        message_id = notifier.error({"token": "secret"}, "instance.failed", payload)
    options = {"topics": ["notifications.error"], "group": "g", "max_wait": 0.05, "config": QUICK}
    with Persister(cluster.url, sink=SQLiteSink(path), **options) as running:
        until(lambda: running.counts.stored == 1)
    columns = [row[1] for row in ask(path, "PRAGMA table_info(notifications)")]
    row = dict(zip(columns, *ask(path, "SELECT * FROM notifications"), strict=True))
    assert json.loads(row.pop("payload")) == payload
    assert row.pop("timestamp").startswith("20")
    assert row.pop("partition") in range(4)
    assert row == {
        "message_id": message_id,
        "publisher_id": "compute.node1",
        "event_type": "instance.failed",
        "priority": "ERROR",
        "topic": "notifications.error",
        "offset": 0,
    }


def test_it_goes_on_where_the_database_is_and_not_where_kafka_is(
    cluster: MockCluster, producer: Producer, path: Path
) -> None:
    first, second = names("a", 300), names("b", 300)
    send(producer, first)
    with persister(cluster, SQLiteSink(path)) as running:
        until(lambda: running.counts.stored == 300)
    send(producer, second)
    # as if the last transactions had been lost with the machine
    ask(path, 'DELETE FROM notifications WHERE "offset" >= 50')
    ask(path, "UPDATE notifications_offsets SET next_offset = 50")
    with persister(cluster, SQLiteSink(path)) as running:
        until(lambda: running.counts.stored == 500)
        time.sleep(0.2)
        assert (running.counts.received, running.counts.duplicates) == (500, 0)
    assert stored(path) == first + second


def test_an_empty_database_gets_everything_whatever_kafka_has_committed(
    cluster: MockCluster, producer: Producer, tmp_path: Path
) -> None:
    send(producer, names("a", 100))
    for name in ("one.db", "two.db"):
        with persister(cluster, SQLiteSink(tmp_path / name)) as running:
            until(lambda: running.counts.stored == 100)
        assert stored(tmp_path / name) == names("a", 100)


def test_start_latest_passes_over_what_was_there_before(cluster: MockCluster, producer: Producer, path: Path) -> None:
    send(producer, names("old", 20))
    with persister(cluster, SQLiteSink(path), start="latest") as running:
        until(lambda: (send(producer, ["probe"]), running.counts.stored)[1])  # it has found the ends
        send(producer, names("new", 20))
        until(lambda: "new0019" in stored(path))
    assert {value for value in stored(path) if value != "probe"} == set(names("new", 20))


def test_rows_are_gathered_up_to_the_size_and_no_longer_than_the_wait(
    cluster: MockCluster, producer: Producer, path: Path
) -> None:
    send(producer, names("a", 1000))
    sink = FlakySink(path)
    with persister(cluster, sink, batch_size=100, max_wait=30) as running:
        until(lambda: running.counts.stored >= 900)
        assert {rows for rows, _ in sink.stores} == {100}
    assert stored(path) == names("a", 1000)  # stop stored what was in hand
    send(producer, ["late"])
    with persister(cluster, sink, batch_size=100, max_wait=0.3) as running:
        until(lambda: running.counts.stored == 1)


def test_twins_are_stored_once_and_counted(cluster: MockCluster, producer: Producer, path: Path) -> None:
    schema = Schema(own=[Column("id", "text")], fill=lambda record: (record.value.decode(),), message_id="id")
    send(producer, ["same", "other", "same"])
    with persister(cluster, SQLiteSink(path), schema=schema) as running:
        until(lambda: running.counts.received == 3)
        until(lambda: running.counts.stored + running.counts.duplicates == 3)
        assert (running.counts.stored, running.counts.duplicates) == (2, 1)


# -- poison --------------------------------------------------------------------------------------------------


def test_poison_goes_to_a_file_and_the_rest_to_the_database(
    cluster: MockCluster, producer: Producer, path: Path, tmp_path: Path
) -> None:
    schema = Schema(own=[Column("value", "blob"), Column("n", "integer")], fill=_number)
    send(producer, ["1", "x", "2", "", "3"])
    with persister(cluster, SQLiteSink(path), schema=schema, dead_letter=tmp_path / "dead.jsonl") as running:
        until(lambda: running.counts.stored == 3 and running.counts.poison == 2)
    assert stored(path) == ["1", "2", "3"]
    dead = {entry["value"]: entry["reason"] for entry in read_dead_letters(tmp_path / "dead.jsonl")}
    assert dead.keys() == {b"x", b""}
    assert "ValueError" in dead[b"x"] and "2 columns" in dead[b""]


def _number(record: Any) -> tuple[Any, ...]:
    return (record.value, int(record.value)) if record.value else (None,)


@pytest.mark.parametrize("dead_letter", [True, "graveyard"])
def test_poison_goes_to_a_topic_with_its_origin(
    cluster: MockCluster, producer: Producer, path: Path, tmp_path: Path, dead_letter: str | bool
) -> None:
    where = dead_letter if isinstance(dead_letter, str) else dead_letter_topic(TOPIC, "g")
    cluster.create_topic(where)
    sent = producer.send(TOPIC, b"no envelope", key=b"k", headers={"trace": b"1"})
    assert sent.result(SOON).delivered == 1
    options: dict[str, Any] = {"group": "g", "max_wait": 0.05, "config": QUICK}
    with Persister(cluster.url, [TOPIC], sink=SQLiteSink(path), dead_letter=dead_letter, **options) as running:
        until(lambda: running.counts.poison == 1)
    headers: list[Any] = []
    schema = Schema(own=[Column("value", "blob")], fill=lambda record: (headers.append(record), (record.value,))[1])
    with persister(cluster, SQLiteSink(tmp_path / "dead.db"), topics=[where], schema=schema) as reading:
        until(lambda: reading.counts.stored == 1)
    (record,) = headers
    assert (record.value, record.key) == (b"no envelope", b"k")
    origin = Origin.of(record)
    assert (origin.topic, origin.offset, origin.group) == (TOPIC, 0, "g")
    assert dict(record.headers)["rdknotify.reason"].startswith(b"EnvelopeError: ")
    assert dict(record.headers)["trace"] == b"1"


def test_poison_without_a_place_is_logged_and_passed(
    cluster: MockCluster, producer: Producer, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    send(producer, ["poison"])
    options: dict[str, Any] = {"group": "g", "max_wait": 0.05, "config": QUICK}
    caplog.set_level(logging.WARNING, "rdknotify")
    with Persister(cluster.url, [TOPIC], sink=SQLiteSink(path), **options) as running:
        until(lambda: running.counts.poison == 1 and running.counts.commits)
    assert f"record skipped by group g: {TOPIC}-" in caplog.text
    assert ask(path, "SELECT next_offset FROM notifications_offsets") == [(1,)]


def test_a_row_that_the_database_refuses_is_poison_and_holds_up_no_other(
    cluster: MockCluster, producer: Producer, path: Path, tmp_path: Path
) -> None:
    values = names("", 50)
    values[17] = values[33] = str(2**70)
    schema = Schema(
        own=[Column("value", "blob"), Column("n", "integer")], fill=lambda record: (record.value, int(record.value))
    )
    send(producer, values)
    with persister(cluster, SQLiteSink(path), schema=schema, dead_letter=tmp_path / "dead.jsonl") as running:
        until(lambda: running.counts.stored == 48 and running.counts.poison == 2)
    assert [entry["value"] for entry in read_dead_letters(tmp_path / "dead.jsonl")] == [b"%d" % 2**70] * 2


def test_nothing_is_passed_while_the_dead_letters_cannot_be_kept(
    cluster: MockCluster, producer: Producer, path: Path
) -> None:
    class Letters:
        def __init__(self) -> None:
            self.failing = True
            self.kept: list[str] = []

        def send(self, records: Any, reason: Any, group: str, attempts: int | None = None) -> None:
            if self.failing:
                raise OSError("no room")
            self.kept += reason

        def close(self) -> None:
            pass

    letters = Letters()
    send(producer, ["poison"])
    schema = Schema(own=[Column("n", "integer")], fill=lambda record: (int(record.value),))
    with persister(cluster, SQLiteSink(path), schema=schema, dead_letter=letters) as running:
        until(lambda: running.counts.retries >= 2)
        assert running.counts.commits == 0
        letters.failing = False
        until(lambda: running.counts.poison == 1)
    assert len(letters.kept) == 1
