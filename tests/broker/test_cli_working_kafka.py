"""``persist``, ``dead-letter`` and ``bench`` on real Kafka: what the embedded broker cannot show."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import pytest
from support.command import run
from support.main_job import Sender
from support.postgres import query
from support.reader import read_all

from rdknotify import Admin, Producer
from rdknotify.deadletter import DeadLetters
from rdknotify.testing import LocalKafka
from rdknotify.testing.cluster import until


class Read:
    """A record as it was read at its origin."""

    key, partition, timestamp = None, 0, 1_750_000_000_000
    headers: list[tuple[str, bytes | None]] = []  # noqa: RUF012  # nobody changes it

    def __init__(self, topic: str, offset: int) -> None:
        self.topic, self.offset, self.value = topic, offset, b"%d" % offset


def test_notifications_come_into_postgres_once(
    kafka: LocalKafka, topic: str, group: str, sender: Sender, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender.send(300)
    place, password = re.sub(r":(\w+)@", "@", dsn), re.findall(r":(\w+)@", dsn)[0]
    arguments = ("persist", f"{topic}.info", "--url", kafka.url, "--group", group)
    refused = run(*arguments, "--into", dsn.replace(password, "wrong"))
    assert refused.status == 1 and "password authentication failed" in refused.err

    monkeypatch.setenv("PGPASSWORD", password)
    first = run(*arguments, "--into", place, "--count", "300")
    assert first.status == 0, first.err
    assert "300 stored" in first.err and password not in first.err
    again = run(*arguments[:-1], f"{group}-2", "--into", place, "--idle", "1")
    assert again.status == 0
    assert "0 stored" in again.err and "300 left out that were there" in again.err
    assert query(dsn, "SELECT count(*), count(DISTINCT message_id) FROM notifications") == [(300, 300)]


def test_dead_letters_are_dealt_with_in_any_order(kafka: LocalKafka, topic: str) -> None:
    letters, common = f"{topic}.dead-letter", ("--url", kafka.url, "--topic", f"{topic}.dead-letter")
    kafka.create_topic(topic, 1)
    kafka.create_topic(letters, 3)
    with Producer(kafka.url) as producer:
        for offset in range(9):  # one by one, for all partitions
            DeadLetters(producer, letters).send([Read(topic, offset)], f"why {offset}", "billing")

    def left() -> set[int]:
        ran = run("dead-letter", "list", *common, "--json")
        assert ran.status == 0, ran.err
        return {json.loads(line)["offset"] for line in ran.out.splitlines()}

    assert left() == set(range(9))
    for offset in (4, 8, 0, 5):
        assert run("dead-letter", "send-again", *common, "--reason", f"why {offset}").status == 0
        assert offset not in left()
    assert run("dead-letter", "discard", *common, "--reason", "why [12]", "--yes").status == 0
    assert left() == {3, 6, 7}
    assert run("dead-letter", "send-again", *common, "--all").status == 0
    assert left() == set()
    sent = [value for *_, value, _ in read_all(kafka.bootstrap_servers, topic)]
    assert sorted(sent) == [b"0", b"3", b"4", b"5", b"6", b"7", b"8"]


def test_a_topic_that_takes_nothing_leaves_its_letters(kafka: LocalKafka, topic: str) -> None:
    letters, common = f"{topic}.dead-letter", ("--url", kafka.url, "--topic", f"{topic}.dead-letter")
    with Producer(kafka.url) as producer:
        producer.create_topics([(topic, 1, -1, {"max.message.bytes": "100"}), (letters, 1, -1, {})])
        record = Read(topic, 0)
        record.value = b"x" * 500
        DeadLetters(producer, letters).send([record, Read(topic, 1)], "why", "billing")
    begun = time.monotonic()
    ran = run("dead-letter", "send-again", *common, "--all")
    assert ran.status == 3
    assert "1 sent again, 1 left" in ran.err and "too large" in ran.err.lower()
    assert time.monotonic() - begun < 10
    assert len(run("dead-letter", "list", *common).rows) == 1


def bench_topics(kafka: LocalKafka) -> list[str]:
    with Admin(kafka.url) as admin:
        return [name for name in admin.topics() if name.startswith("rdknotify-bench-")]


def test_bench_takes_its_topic_away(kafka: LocalKafka) -> None:
    ran = run("bench", "--url", kafka.url, "--seconds", "0.5", "--json")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["produce"]["records"] > 1000
    until(lambda: not bench_topics(kafka), 10, "the topic stays")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_bench_takes_its_topic_away(kafka: LocalKafka, number: signal.Signals, status: int) -> None:
    """Also what was in flight then does not make brokers create it anew."""
    command = [sys.executable, "-m", "rdknotify", "bench", "--url", kafka.url, "--seconds", "60"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: bench_topics(kafka), 30, "there is no topic")
        time.sleep(1.0)  # it sends
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err.strip()) == (status, "")
    until(lambda: not bench_topics(kafka), 10, "the topic stays")
    time.sleep(1.0)
    assert not bench_topics(kafka)
