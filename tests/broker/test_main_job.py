"""The main job on real Kafka with real notifications: all of them in the database, each once, whatever happens."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.database import ask
from support.main_job import SOON, Kafka, Sender, Workers, until

from rdknotify import Consumer, Persister, Producer, SQLiteSink
from rdknotify.testing.data import nova_notifications
from rdknotify.topics import notification_topic


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "notifications.db"


@pytest.fixture
def workers(kafka: Kafka, topic: str, group: str, database: Path) -> Iterator[Workers]:
    workers = Workers(kafka, topic, group, database)
    yield workers
    workers.end()


def rows(database: Path) -> int:
    """About how many there are, at no cost: the table only grows."""
    if not database.exists():
        return 0
    try:
        return int(ask(database, "SELECT max(rowid) FROM notifications")[0][0] or 0)
    except sqlite3.OperationalError:
        return 0  # not made yet


def exactly(database: Path, sent: list[str]) -> bool:
    """Whether the database holds each of these ids once, and no other."""
    found = [row[0] for row in ask(database, "SELECT message_id FROM notifications")]
    return sorted(found) == sorted(sent)


def test_a_hundred_thousand_notifications_are_stored_exactly_once(
    kafka: Kafka, topic: str, group: str, database: Path, sender: Sender
) -> None:
    names = [notification_topic(topic, "info")]
    with Persister(kafka.url, names, group=group, sink=SQLiteSink(database), max_wait=0.2) as persister:
        sender.send(100_000)
        until(lambda: persister.counts.stored >= 100_000)
        until(lambda: persister.counts.received == persister.counts.stored)
    assert exactly(database, sender.sent)
    found = ask(database, "SELECT message_id, event_type, payload FROM notifications")
    stored = {row[0]: row[1:] for row in found}
    for message_id, one in zip(sender.sent, itertools.cycle(nova_notifications()), strict=False):
        event_type, payload = stored[message_id]
        assert (event_type, json.loads(payload)) == (one["event_type"], one["payload"])
    with Consumer(kafka.url, names, group) as watcher:
        # Whoever watches the group by its committed offsets sees no lag.
        until(lambda: (watcher.poll(1, 0.1), watcher.assignment())[1])
        assert sum(offset or 0 for offset in watcher.committed().values()) == 100_000


def test_a_persister_killed_ten_times_stores_everything_exactly_once(
    database: Path, sender: Sender, workers: Workers
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    # A static member that comes back takes the place of its dead self; any other waits for that one's session to end.
    static = {"group.instance.id": "the-one"}
    with sender.sending(200_000, rate=100_000):  # a backlog, so that it is always busy storing when it is killed
        for _ in range(10):
            worker, before = workers.start(**static), rows(database)
            until(lambda before=before: rows(database) > before)
            time.sleep(moments.uniform(0.0, 0.2))
            worker.kill()
            worker.wait()
    assert rows(database) < 190_000, "all was stored before the last kill: the test shows less than it says"
    last = workers.start(**static)
    until(lambda: rows(database) >= 200_000)
    workers.leave(last)
    assert exactly(database, sender.sent)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_members_join_and_leave_in_the_middle(database: Path, sender: Sender, workers: Workers, protocol: str) -> None:
    workers.use(group_protocol=protocol)
    with sender.sending(60_000, rate=5_000) as sending:
        first = workers.start()
        until(lambda: rows(database) > 5_000)
        second = workers.start()
        until(lambda: rows(database) > 25_000)
        left = workers.leave(first)
        assert sending.is_alive(), "all was sent before the first member left"
    until(lambda: rows(database) >= 60_000)
    stayed = workers.leave(second)
    assert exactly(database, sender.sent)
    assert left["stored"] + stayed["stored"] == 60_000
    assert min(left["stored"], stayed["stored"]) > 5_000
    assert left["duplicates"] == stayed["duplicates"] == 0


def test_the_partitions_of_a_killed_member_go_to_the_other(database: Path, sender: Sender, workers: Workers) -> None:
    session = {"session.timeout.ms": 6000}
    with sender.sending(30_000, rate=3_000):
        victim, heir = workers.start(**session), workers.start(**session)
        until(lambda: rows(database) > 10_000)
        victim.kill()
    until(lambda: rows(database) >= 30_000)
    workers.leave(heir)
    assert exactly(database, sender.sent)


def test_a_stopped_persister_that_wakes_up_late_spoils_nothing(
    database: Path, sender: Sender, workers: Workers
) -> None:
    session = {"session.timeout.ms": 6000}
    with sender.sending(40_000, rate=3_000):
        sleeper = workers.start(**session)
        until(lambda: rows(database) > 3_000)
        _freeze(sleeper, database)
        frozen = rows(database)
        heir = workers.start(**session)
        until(lambda: rows(database) > frozen + 5_000)
        os.kill(sleeper.pid, signal.SIGCONT)
    until(lambda: rows(database) >= 40_000)
    workers.leave(heir)
    workers.leave(sleeper)
    assert exactly(database, sender.sent)


def _freeze(worker: subprocess.Popen[str], database: Path) -> None:
    """Stop the process wherever it is, but outside of a transaction: inside, nobody else could go on."""
    for _ in range(100):
        os.kill(worker.pid, signal.SIGSTOP)
        with closing(sqlite3.connect(database, timeout=0.5, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
                return
            except sqlite3.OperationalError:
                os.kill(worker.pid, signal.SIGCONT)
                time.sleep(0.01)
    pytest.fail("the process was always inside a transaction")


def test_the_demo_does_the_same_on_this_broker_and_leaves_no_topic(kafka: Kafka) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rdknotify", "demo", "--kafka", kafka.bootstrap_servers, "--count", "5000"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exactly once" in done.stdout
    with Producer(kafka.url) as client:
        until(lambda: not [name for name in client.metadata()["topics"] if name.startswith("rdknotify-demo-")])


def test_reading_begins_again_at_a_point_in_time(kafka: Kafka, topic: str, group: str) -> None:
    kafka.create_topic(topic, partitions=4)
    with Producer(kafka.url) as producer:
        producer.send_batch(topic, [f"early {n}" for n in range(2_000)]).result(SOON).raise_for_failures()
        time.sleep(0.05)  # timestamps are milliseconds
        moment = time.time()
        time.sleep(0.05)
        producer.send_batch(topic, [f"late {n}" for n in range(2_000)]).result(SOON).raise_for_failures()
    with Consumer(kafka.url, [topic], group) as consumer:
        first = _read(consumer, 4_000)
        assert sum(value.startswith(b"early") for value in first) == 2_000
        for when in (moment, moment - 3600.0):
            consumer.seek_to_time(when)
            again = _read(consumer, 2_000 if when == moment else 4_000)
            assert sorted(again) == sorted(value for value in first if when < moment or value.startswith(b"late"))


def _read(consumer: Consumer, count: int) -> list[bytes]:
    values: list[bytes] = []
    deadline = time.monotonic() + SOON
    while len(values) < count:
        assert time.monotonic() < deadline, f"{len(values)} of {count} records came"
        values += [value for value in consumer.poll(1_000, 0.5).values() if value is not None]
    assert not consumer.poll(1, 0.3), "more records came than there are"
    return values
