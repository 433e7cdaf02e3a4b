"""A topic that was deleted and made anew has other records at the same offsets: none is taken for the old one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.database import ask
from support.figures import Figures
from support.main_job import SOON, Kafka
from support.waiting import until

from rdknotify import Consumer, Persister, Producer, SQLiteSink, _rdknotify
from rdknotify.sinks import RAW, TopicReplaced
from rdknotify.testing.cluster import LocalKafkaError

STORED = 100


@pytest.fixture
def producer(kafka: Kafka) -> Iterator[Producer]:
    with Producer(kafka.url) as producer:
        yield producer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.db"


def make(kafka: Kafka, topic: str) -> None:
    def made() -> bool:
        try:
            kafka.create_topic(topic, partitions=1)
        except LocalKafkaError:  # the old one is still there
            return False
        return True

    until(made, timeout=SOON)


def make_anew(kafka: Kafka, topic: str) -> None:
    admin = _rdknotify.Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "admin"})
    assert admin.delete_topics([topic]) == [None]
    admin.shut()
    make(kafka, topic)


def send(kafka: Kafka, topic: str, text: str, count: int) -> None:
    with Producer(kafka.url) as producer:  # a new one, for whom there never was another topic
        producer.send_batch(topic, [f"{text}{number}" for number in range(count)]).result(SOON).raise_for_failures()


def persister(kafka: Kafka, topic: str, group: str, path: Path, **options: Any) -> Persister:
    return Persister(kafka.url, [topic], group=group, sink=SQLiteSink(path), schema=RAW, max_wait=0.05, **options)


def intact(path: Path) -> bool:
    """Whether what was stored of the old topic is there, and nothing else."""
    values = [bytes(value).decode() for (value,) in ask(path, "SELECT value FROM notifications")]
    return sorted(values) == sorted(f"old{number}" for number in range(STORED))


@pytest.mark.parametrize("count", [STORED // 2, STORED, 3 * STORED], ids=["shorter", "as long", "longer"])
def test_a_topic_made_anew_between_two_runs(
    kafka: Kafka, topic: str, group: str, path: Path, figure: Figures, count: int
) -> None:
    make(kafka, topic)
    send(kafka, topic, "old", STORED)
    with persister(kafka, topic, group, path) as running:
        until(lambda: running.counts.stored == STORED, timeout=SOON)
    make_anew(kafka, topic)
    send(kafka, topic, "new", count)
    running = persister(kafka, topic, group, path)
    running.start()
    if count == STORED:  # nothing to store, nothing to tell it by: until there is
        until(lambda: running.partitions, timeout=SOON)
        send(kafka, topic, "more", 1)
    begun = time.monotonic()
    with pytest.raises(TopicReplaced, match=r"deleted and made anew.*give another table"):
        running.wait(SOON)
    what = f"topic made anew between two runs, with {count} records for {STORED}"
    figure("P", f"{what}: noticed after", time.monotonic() - begun, "s", at_most=20)
    assert intact(path)


@pytest.mark.parametrize("count", [STORED // 2, 3 * STORED], ids=["shorter", "longer"])
def test_a_topic_made_anew_under_a_running_persister(
    kafka: Kafka,
    topic: str,
    group: str,
    path: Path,
    figure: Figures,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rdknotify.persister.TOPIC_ID_INTERVAL", 0)  # all of it happens within that time
    make(kafka, topic)
    send(kafka, topic, "old", STORED)
    running = persister(kafka, topic, group, path)
    running.start()
    until(lambda: running.counts.stored == STORED, timeout=SOON)
    make_anew(kafka, topic)
    send(kafka, topic, "new", count)
    begun = time.monotonic()
    with pytest.raises(TopicReplaced, match=r"deleted and made anew.*give another table"):
        running.wait(SOON)
    what = f"topic made anew under a running persister, with {count} records for {STORED}"
    figure("P", f"{what}: noticed after", time.monotonic() - begun, "s", at_most=20)
    assert intact(path)


def test_a_consumer_tells_the_ids_of_topics(kafka: Kafka, topic: str, group: str) -> None:
    make(kafka, topic)
    with Consumer(kafka.url, [topic], group) as consumer:
        (first,) = consumer.topic_ids([topic, f"{topic}-missing"]).values()
        assert consumer.topic_ids([topic]) == {topic: first}
        make_anew(kafka, topic)
        assert consumer.topic_ids([topic])[topic] != first
