"""The persister while one call of the database, or of the dead letters, takes longer than Kafka waits for a member."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.database import ask
from support.persisting import (
    QUICK,
    SOON,
    TOPIC,
    FlakySink,
    SlowSink,
    names,
    persister,
    seconds_until_interrupted,
    send,
    stored,
)
from support.waiting import until

from rdknotify.persister import Persister
from rdknotify.producer import Producer
from rdknotify.sinks import SinkError
from rdknotify.sinks.schema import Column, Schema
from rdknotify.testing import MockCluster
from rdknotify.topics import TopicPartition

INTERVAL = 1.0
IMPATIENT = {**QUICK, "max.poll.interval.ms": 1000, "session.timeout.ms": 1000}
"""A member that does not poll for a second is thrown out."""


@pytest.fixture
def sink(path: Path) -> Iterator[SlowSink]:
    sink = SlowSink(path)
    yield sink
    sink.gate.set()


def hold(sink: SlowSink, seconds: float = 3 * INTERVAL) -> None:
    """Wait until a call stands still, and as long again as it should stand."""
    until(lambda: sink.waiting, timeout=SOON)
    time.sleep(seconds)


def test_a_store_longer_than_the_poll_interval_keeps_the_membership(
    cluster: MockCluster, producer: Producer, sink: SlowSink, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with persister(cluster, sink, config=IMPATIENT) as running:
        until(lambda: len(running.partitions) == 2, timeout=SOON)
        sink.gate.clear()
        send(producer, names("a", 200))
        hold(sink)
        send(producer, names("b", 200))
        sink.gate.set()
        until(lambda: running.counts.stored == 400, timeout=SOON)
        assert (running.counts.duplicates, running.counts.retries) == (0, 0)
    assert sink.restores == 1, "the group was joined again"
    assert "maximum poll interval" not in caplog.text
    assert stored(path) == names("a", 200) + names("b", 200)


def test_a_restore_longer_than_the_poll_interval_keeps_the_membership(
    cluster: MockCluster, producer: Producer, sink: SlowSink, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    send(producer, names("a", 100))
    with persister(cluster, FlakySink(path)) as running:
        until(lambda: running.counts.stored == 100, timeout=SOON)
    ask(path, 'DELETE FROM notifications WHERE "offset" >= 10')
    ask(path, "UPDATE notifications_offsets SET next_offset = 10")
    sink.gate.clear()
    with persister(cluster, sink, config=IMPATIENT) as running:
        hold(sink)
        sink.gate.set()
        until(lambda: running.counts.stored == 80, timeout=SOON)
        assert running.counts.duplicates == 0
        assert running.partitions == {TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)}
    assert "maximum poll interval" not in caplog.text
    assert stored(path) == names("a", 100)


def test_dead_letters_that_take_long_keep_the_membership(
    cluster: MockCluster, producer: Producer, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Letters:
        kept = 0

        def send(self, records: Any, reason: Any, group: str, attempts: int | None = None) -> None:
            time.sleep(3 * INTERVAL)
            self.kept += len(records)

        def close(self) -> None:
            pass

    letters, sink = Letters(), SlowSink(path)
    schema = Schema(own=[Column("n", "integer")], fill=lambda record: (int(record.value),))
    send(producer, ["1", "poison", "2"])
    with persister(cluster, sink, config=IMPATIENT, schema=schema, dead_letter=letters) as running:
        until(lambda: running.counts.stored == 2, timeout=SOON)
    assert (letters.kept, running.counts.poison, sink.restores) == (1, 1, 1)
    assert "maximum poll interval" not in caplog.text


def test_a_partition_is_given_up_in_time_though_its_store_is_still_under_way(
    cluster: MockCluster, producer: Producer, sink: SlowSink, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with persister(cluster, sink, config=IMPATIENT) as first:
        until(lambda: len(first.partitions) == 2, timeout=SOON)
        sink.gate.clear()
        send(producer, names("a", 200))
        until(lambda: sink.waiting, timeout=SOON)
        with persister(cluster, FlakySink(path), config=IMPATIENT) as second:
            until(lambda: len(second.partitions) == 1, timeout=SOON)
            until(lambda: second.counts.stored > 0, timeout=SOON)  # it does not wait for the first
            sink.gate.set()  # which stores the same rows late
            until(lambda: len(stored(path)) == 200, timeout=SOON)
            send(producer, names("b", 200))
            until(lambda: len(stored(path)) == 400, timeout=SOON)
            assert len(first.partitions) == 1
    assert "maximum poll interval" not in caplog.text
    assert stored(path) == names("a", 200) + names("b", 200)
    ends = dict(ask(path, 'SELECT partition, max("offset") + 1 FROM notifications GROUP BY partition'))
    assert dict(ask(path, "SELECT partition, next_offset FROM notifications_offsets")) == ends


def test_stop_does_not_wait_for_ever_for_a_store(
    cluster: MockCluster, producer: Producer, sink: SlowSink, path: Path
) -> None:
    running = persister(cluster, sink, stop_timeout=2.0)
    running.start()
    until(lambda: len(running.partitions) == 2, timeout=SOON)
    sink.gate.clear()
    send(producer, names("a", 10))
    until(lambda: sink.waiting, timeout=SOON)
    begun = time.monotonic()
    running.stop()
    with pytest.raises(SinkError, match="no answer"):
        running.wait(SOON)
    assert time.monotonic() - begun < 10
    sink.gate.set()  # it stores in the end, and whoever comes next begins there
    with persister(cluster, FlakySink(path)) as running:
        until(lambda: len(stored(path)) == 10, timeout=SOON)
        send(producer, names("b", 10))
        until(lambda: len(stored(path)) == 20, timeout=SOON)
    assert stored(path) == names("a", 10) + names("b", 10)


def test_a_second_interrupt_does_not_wait_for_a_store(
    cluster: MockCluster, producer: Producer, sink: SlowSink, path: Path
) -> None:
    running = persister(cluster, sink, stop_timeout=60.0)

    def interrupt() -> None:
        until(lambda: len(running.partitions) == 2, timeout=SOON)
        sink.gate.clear()
        send(producer, ["a"])
        until(lambda: sink.waiting, timeout=SOON)
        os.kill(os.getpid(), signal.SIGINT)
        until(lambda: running.stopping, timeout=SOON)
        os.kill(os.getpid(), signal.SIGINT)

    assert seconds_until_interrupted(running, interrupt) < SOON


def test_all_calls_of_the_sink_come_from_one_thread(cluster: MockCluster, producer: Producer, path: Path) -> None:
    class Particular(FlakySink):
        callers: set[int]

        def _turn(self) -> Any:
            self.callers = {*getattr(self, "callers", ()), threading.get_ident()}
            return super()._turn()

    sink = Particular(path)
    running: Persister
    with persister(cluster, sink, max_wait=60.0) as running:
        send(producer, names("a", 20))
        until(lambda: running.counts.received == 20, timeout=SOON)
        with persister(cluster, FlakySink(path)):
            until(lambda: running.counts.stored == 20, timeout=SOON)  # in the hook of the revocation
    assert len(sink.callers) == 1
