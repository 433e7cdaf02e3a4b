"""The persister as a member of a group, and its one life."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.persisting import SOON, TOPIC, FlakySink, names, persister, seconds_until_interrupted, send, stored
from support.waiting import until

from rdknotify.errors import ClosedError, ConfigError
from rdknotify.producer import Producer
from rdknotify.sinks.schema import Column, Schema
from rdknotify.sinks.sqlite import SQLiteSink
from rdknotify.testing import MockCluster


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

    assert seconds_until_interrupted(running, interrupt) < SOON


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
