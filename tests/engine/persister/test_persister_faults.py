"""The persister while the database fails, and topics that are not what they were."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from support.database import ask
from support.persisting import QUICK, SOON, TOPIC, FlakySink, names, persister, send, stored
from support.waiting import until

from rdknotify.producer import Producer
from rdknotify.sinks import SinkError
from rdknotify.sinks.sqlite import SQLiteSink
from rdknotify.testing import MockCluster
from rdknotify.topics import TopicPartition


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
    with pytest.raises(SinkError, match="goes on at offset 0, but 1000 was reached: the topic was deleted"):
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
