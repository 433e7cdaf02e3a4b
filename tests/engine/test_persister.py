"""The persister over librdkafka's in-process Kafka: every record once in the database, whatever fails meanwhile."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.database import ask

from rdknotify.deadletter import read_dead_letters
from rdknotify.errors import ClosedError, ConfigError
from rdknotify.notifier import Notifier
from rdknotify.persister import Persister
from rdknotify.producer import Producer
from rdknotify.provenance import Origin
from rdknotify.sinks import SinkError, Span
from rdknotify.sinks.schema import RAW, Column, Schema
from rdknotify.sinks.sqlite import SQLiteSink
from rdknotify.testing import MockCluster
from rdknotify.topics import TopicPartition, dead_letter_topic

TOPIC = "metrics"
SOON = 15.0
"""Seconds after which something that should happen counts as missing."""

QUICK = {"fetch.wait.max.ms": 20, "session.timeout.ms": 2000, "heartbeat.interval.ms": 100}
"""The mock answers an empty fetch only at the end of its time, and a rebalance takes it as long as a session."""


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        cluster.create_topic(TOPIC, partitions=2)
        yield cluster


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.db"


@pytest.fixture
def producer(cluster: MockCluster) -> Iterator[Producer]:
    with Producer(cluster.url) as producer:
        yield producer


class FlakySink(SQLiteSink):
    """A database that can be taken away, and notes what it was asked."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.down = False
        self.refused = 0
        self.stores: list[tuple[int, Mapping[TopicPartition, Span]]] = []

    def restore(self, group: str, partitions: Any) -> Mapping[TopicPartition, int]:
        self._fail()
        return super().restore(group, partitions)

    def store(self, group: str, rows: Sequence[tuple[Any, ...]], spans: Mapping[TopicPartition, Span]) -> int:
        self._fail()
        new = super().store(group, rows, spans)
        self.stores.append((len(rows), dict(spans)))
        return new

    def _fail(self) -> None:
        if self.down:
            self.refused += 1
            raise SinkError("the database is away")


def persister(cluster: MockCluster, sink: SQLiteSink, **options: Any) -> Persister:
    settings = {"group": "g", "schema": RAW, "max_wait": 0.05, "config": QUICK, **options}
    return Persister(cluster.url, settings.pop("topics", [TOPIC]), sink=sink, **settings)


def send(producer: Producer, values: Sequence[str], topic: str = TOPIC) -> None:
    producer.send_batch(topic, list(values), keys=list(values)).result(SOON).raise_for_failures()


def stored(path: Path) -> list[str]:
    return sorted(value.decode() for (value,) in ask(path, "SELECT value FROM notifications"))


def until(condition: Callable[[], object], timeout: float = SOON) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:04}" for number in range(count)]


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


# -- a database that fails -----------------------------------------------------------------------------------


def test_an_outage_of_the_database_loses_and_doubles_nothing_and_keeps_the_membership(
    cluster: MockCluster, producer: Producer, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = FlakySink(path)
    # A member that did not poll would be thrown out.
    impatient = {**QUICK, "max.poll.interval.ms": 1000, "session.timeout.ms": 1000}
    send(producer, names("a", 200))
    with persister(cluster, sink, config=impatient) as running:
        until(lambda: running.counts.stored == 200)
        sink.down = True
        send(producer, names("b", 200))
        until(lambda: sink.refused >= 5)  # 0.2 + 0.4 + 0.8 + 1.6 seconds apart, less jitter
        send(producer, names("c", 200))
        assert running.partitions == {TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)}
        sink.down = False
        until(lambda: running.counts.stored == 600)
        assert running.counts.duplicates == 0
        assert running.counts.retries >= 5
    assert stored(path) == names("a", 200) + names("b", 200) + names("c", 200)
    assert "maximum poll interval" not in caplog.text


def test_a_database_that_is_away_at_the_assignment_is_waited_for(
    cluster: MockCluster, producer: Producer, path: Path
) -> None:
    send(producer, names("a", 100))
    with persister(cluster, SQLiteSink(path)) as running:
        until(lambda: running.counts.stored == 100)
    ask(path, 'DELETE FROM notifications WHERE "offset" >= 10')
    ask(path, "UPDATE notifications_offsets SET next_offset = 10")
    sink = FlakySink(path)
    sink.down = True
    with persister(cluster, sink) as running:
        until(lambda: sink.refused >= 2)
        sink.down = False
        until(lambda: running.counts.stored == 80)
        assert running.counts.duplicates == 0
    assert stored(path) == names("a", 100)


def test_a_database_that_went_back_is_filled_again(cluster: MockCluster, producer: Producer, path: Path) -> None:
    send(producer, names("a", 100))
    with persister(cluster, SQLiteSink(path)) as running:
        until(lambda: running.counts.stored == 100)
        # as a fail-over to a replica that lagged
        ask(path, 'DELETE FROM notifications WHERE "offset" >= 10')
        ask(path, "UPDATE notifications_offsets SET next_offset = 10")
        send(producer, names("b", 20))
        until(lambda: len(stored(path)) == 120)
    assert stored(path) == names("a", 100) + names("b", 20)


def test_stop_answers_while_the_database_fails(cluster: MockCluster, producer: Producer, path: Path) -> None:
    sink = FlakySink(path)
    send(producer, names("a", 10))
    running = persister(cluster, sink, stop_timeout=2.0)
    running.start()
    until(lambda: running.partitions)
    sink.down = True
    send(producer, names("b", 10))
    until(lambda: sink.refused >= 2)
    begun = time.monotonic()
    running.stop()
    with pytest.raises(SinkError, match="the database is away"):
        running.wait(SOON)
    assert time.monotonic() - begun < 3
    sink.down = False
    with persister(cluster, sink):
        until(lambda: len(stored(path)) == 20)


def test_it_gives_up_after_the_time_it_was_given(cluster: MockCluster, producer: Producer, path: Path) -> None:
    sink = FlakySink(path)
    running = persister(cluster, sink, give_up_after=0.5)
    running.start()
    until(lambda: running.partitions)
    sink.down = True
    send(producer, ["a"])
    with pytest.raises(SinkError, match="the database is away"):
        running.wait(SOON)


def test_a_topic_made_anew_is_noticed(cluster: MockCluster, producer: Producer, path: Path) -> None:
    send(producer, names("a", 10))
    with persister(cluster, SQLiteSink(path)) as running:
        until(lambda: running.counts.stored == 10)
    ask(path, "UPDATE notifications_offsets SET next_offset = 1000")  # beyond the end of the new topic
    running = persister(cluster, SQLiteSink(path))
    running.start()
    with pytest.raises(SinkError, match="begins at offset 0, but the database holds 1000: the topic was deleted"):
        running.wait(SOON)


def test_what_is_no_longer_on_the_log_is_warned_of(
    cluster: MockCluster, producer: Producer, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.create_topic("short", partitions=1)
    send(producer, ["first"], "short")
    with persister(cluster, SQLiteSink(path), topics=["short"]) as running:
        until(lambda: running.counts.stored == 1)
    for _ in range(8):  # the log keeps 5 MiB
        producer.send("short", b"x" * 900_000).result(SOON).raise_for_failures()
    producer.send("short", b"last").result(SOON).raise_for_failures()
    with persister(cluster, SQLiteSink(path), topics=["short"]) as running:
        until(lambda: ask(path, "SELECT 1 FROM notifications WHERE value = CAST('last' AS BLOB)"))
    assert re.search(r"short-0 begins at offset [2-9], not at 1 which the database holds", caplog.text)


# -- the group -----------------------------------------------------------------------------------------------


def test_members_share_the_partitions_and_each_record_is_stored_once(
    cluster: MockCluster, producer: Producer, path: Path
) -> None:
    first = persister(cluster, FlakySink(path))
    first.start()
    until(lambda: len(first.partitions) == 2)
    send(producer, names("a", 500))
    second = persister(cluster, FlakySink(path))
    second.start()
    until(lambda: len(first.partitions) == len(second.partitions) == 1)
    send(producer, names("b", 500))
    until(lambda: len(stored(path)) == 1000)
    first.close()
    send(producer, names("c", 500))
    until(lambda: len(stored(path)) == 1500)
    second.close()
    assert first.counts.stored + second.counts.stored == 1500
    assert first.counts.duplicates == second.counts.duplicates == 0


def test_a_partition_is_stored_before_it_is_given_up(cluster: MockCluster, producer: Producer, path: Path) -> None:
    sink = FlakySink(path)
    first = persister(cluster, sink, batch_size=100_000, max_wait=60.0)
    first.start()
    until(lambda: len(first.partitions) == 2)
    send(producer, names("a", 100))
    until(lambda: first.counts.received == 100)
    assert first.counts.stored == 0
    with persister(cluster, FlakySink(path)) as second:
        until(lambda: first.counts.stored == 100)
        until(lambda: len(second.partitions) == 1)
        assert second.counts.received == 0
    first.close()


# -- life ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stores_what_is_in_hand_and_leaves(
    cluster: MockCluster, producer: Producer, path: Path, number: signal.Signals
) -> None:
    send(producer, names("a", 10))
    running = persister(cluster, SQLiteSink(path), max_wait=60.0)

    def interrupt() -> None:
        until(lambda: running.counts.received == 10)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    thread = threading.Thread(target=interrupt)
    thread.start()
    running.run()
    thread.join()
    assert stored(path) == names("a", 10)
    assert signal.getsignal(number) is before


def test_a_second_interrupt_ends_it_at_once(cluster: MockCluster, producer: Producer, path: Path) -> None:
    sink = FlakySink(path)
    running = persister(cluster, sink, stop_timeout=60.0)

    def interrupt() -> None:
        until(lambda: running.partitions)
        sink.down = True
        send(producer, ["a"])
        until(lambda: sink.refused >= 1)
        os.kill(os.getpid(), signal.SIGINT)
        refused = sink.refused
        until(lambda: sink.refused > refused)  # it drains
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        running.run()
    thread.join()
    assert time.monotonic() - begun < SOON


def test_the_end_of_the_program_stores_what_is_in_hand(cluster: MockCluster, producer: Producer, path: Path) -> None:
    send(producer, names("a", 10))
    program = f"""
import time
from rdknotify import Persister, SQLiteSink
from rdknotify.sinks.schema import RAW
p = Persister({cluster.url!r}, [{TOPIC!r}], group="g", sink=SQLiteSink({str(path)!r}), schema=RAW, max_wait=60.0)
p.start()
while p.counts.received < 10:
    time.sleep(0.01)
assert p.counts.stored == 0
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SOON, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert stored(path) == names("a", 10)


def test_it_has_one_life(cluster: MockCluster, path: Path) -> None:
    running = persister(cluster, SQLiteSink(path))
    assert running.wait(0)
    running.start()
    assert not running.wait(0)
    running.close()
    running.close()
    assert running.wait(0)
    with pytest.raises(ClosedError, match="started before"):
        running.run()


def test_what_is_wrong_is_said_at_once(cluster: MockCluster, path: Path, tmp_path: Path) -> None:
    sink = SQLiteSink(path)
    for options, text in (
        ({"topics": TOPIC}, "topics='metrics'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"max_wait": -1}, "max_wait=-1"),
        ({"dead_letter": 7}, "dead_letter=7"),
        ({"dead_letter": str(tmp_path / "no" / "where")}, "does not exist"),
        ({"dead_letter": "bad name"}, "bad name"),
        ({"batch_sise": 3}, "batch_sise"),
    ):
        with pytest.raises(ConfigError, match=text):
            persister(cluster, sink, **options)
    with pytest.raises(ConfigError, match="'topic' is there twice"):
        Schema(own=[Column("topic", "text")], fill=lambda record: ())
    with pytest.raises(ConfigError, match="message_id='x'"):
        Schema(own=[Column("y", "text")], fill=lambda record: (), message_id="x")
