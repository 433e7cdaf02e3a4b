"""Dead letters: kept with their origin and reason before ``send`` returns, in a file, a topic, or the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rdknotify.consumer import Consumer
from rdknotify.deadletter import DeadLetterFile, DeadLetterLog, DeadLetters, read_dead_letters
from rdknotify.errors import ConfigError, PartialDeliveryError
from rdknotify.producer import Producer
from rdknotify.provenance import Origin, origin_headers
from rdknotify.testing import MockCluster


@dataclass
class Read:
    """A consumed record."""

    value: bytes | None = b"{broken"
    key: bytes | None = b"k\xff"
    headers: list[tuple[str, bytes | None]] = field(default_factory=lambda: [("trace", b"\x00\x01"), ("none", None)])
    topic: str = "notifications.info"
    partition: int = 3
    offset: int = 41
    timestamp: int | None = 1_700_000_000_123


def republished(record: Read, headers: Sequence[Any], **where: Any) -> Read:
    return Read(record.value, record.key, list(headers), **where)


def test_headers_tell_the_origin_and_leave_the_others() -> None:
    headers = origin_headers(Read(), "billing", reason="no JSON", attempts=2)
    assert headers[:2] == [("trace", b"\x00\x01"), ("none", None)]
    assert dict(headers[2:]) == {
        "rdknotify.topic": b"notifications.info",
        "rdknotify.partition": b"3",
        "rdknotify.offset": b"41",
        "rdknotify.timestamp": b"1700000000123",
        "rdknotify.group": b"billing",
        "rdknotify.reason": b"no JSON",
        "rdknotify.attempts": b"2",
    }


def test_a_record_published_again_keeps_its_first_origin() -> None:
    first = Read()
    retried = republished(first, origin_headers(first, "billing", attempts=1, not_before=5), topic="retry", offset=0)
    assert Origin.of(retried) == Origin("notifications.info", 3, 41, 1_700_000_000_123, "billing", 1, 5)
    dead = republished(retried, origin_headers(retried, "billing", reason="gave up"), topic="dead")
    assert Origin.of(dead) == Origin("notifications.info", 3, 41, 1_700_000_000_123, "billing", 1, 0)
    assert [name for name, _ in dead.headers].count("rdknotify.topic") == 1


@pytest.mark.parametrize("bad", [b"", b"x", b"\xff"])
def test_headers_that_others_spoiled_are_ignored(bad: bytes) -> None:
    record = Read(headers=[("rdknotify.topic", b"t"), ("rdknotify.partition", bad), ("rdknotify.offset", b"1")])
    assert Origin.of(record) == Origin("notifications.info", 3, 41, 1_700_000_000_123)


def test_a_file_gives_back_what_was_sent(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    letters = DeadLetterFile(path)
    letters.send([Read(), Read(value=None, key=None, offset=42)], ["first", "second"], "g")
    DeadLetterFile(path).send([Read(offset=43)], "third", "g", attempts=4)
    entries = list(read_dead_letters(path))
    assert [(entry["offset"], entry["reason"]) for entry in entries] == [(41, "first"), (42, "second"), (43, "third")]
    assert (entries[0]["value"], entries[0]["key"]) == (b"{broken", b"k\xff")
    assert (entries[1]["value"], entries[1]["key"]) == (None, None)
    assert ("none", None) in entries[0]["headers"]
    assert ("rdknotify.attempts", b"4") in entries[2]["headers"]


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    letters = DeadLetterFile(path)
    letters.send([Read(offset=1)], "whole", "g")
    with path.open("ab") as file:
        file.write(b'{"topic": "notif')
    letters.send([Read(offset=2)], "after", "g")
    assert [entry["offset"] for entry in read_dead_letters(path)] == [1, 2]


def test_a_missing_folder_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dead_letter=.*does not exist; make it first"):
        DeadLetterFile(tmp_path / "nowhere" / "dead.jsonl")


def test_the_log_names_each_record_but_not_its_payload(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "rdknotify"):
        DeadLetterLog().send([Read(), Read(offset=42)], "no JSON", "g")
    assert [record.getMessage() for record in caplog.records] == [
        f"record skipped by group g: notifications.info-3 offset {offset}: no JSON "
        "(set dead_letter to keep such records)"
        for offset in (41, 42)
    ]


def published(cluster: MockCluster, topic: str, count: int) -> list[Any]:
    with Consumer(cluster.url, [topic], "reader", config={"fetch.wait.max.ms": 20}) as consumer:
        records: list[Any] = []
        while len(records) < count:
            batch = consumer.poll(100, 10.0)
            assert batch, f"{len(records)} of {count} dead letters came"
            records += [Read(r.value, r.key, r.headers, r.topic, r.partition, r.offset, r.timestamp) for r in batch]
        return sorted(records, key=lambda record: int(dict(record.headers)["rdknotify.offset"]))


def test_a_topic_gets_them_in_one_go_with_their_reasons(mock_cluster: MockCluster) -> None:
    with Producer(mock_cluster.url) as producer:
        letters = DeadLetters(producer, "graveyard")
        letters.send([Read(offset=n) for n in range(50)], [f"reason {n}" for n in range(50)], "g", attempts=3)
        letters.close()
        assert not producer.closed  # it is ours
    found = published(mock_cluster, "graveyard", 50)
    assert [dict(record.headers)["rdknotify.reason"] for record in found] == [b"reason %d" % n for n in range(50)]
    assert {(record.value, record.key) for record in found} == {(b"{broken", b"k\xff")}
    assert ("none", None) in found[0].headers


def test_one_that_no_longer_fits_goes_without_its_value(mock_cluster: MockCluster) -> None:
    with Producer(mock_cluster.url, config={"message.max.bytes": 2000}) as producer:
        large = Read(value=b"x" * 1900, offset=1)
        DeadLetters(producer, "graveyard").send([Read(offset=0), large, Read(offset=2)], "bad", "g")
    found = published(mock_cluster, "graveyard", 3)
    assert [record.value for record in found] == [b"{broken", None, b"{broken"]
    assert dict(found[1].headers)["rdknotify.reason"] == b"bad (its value of 1900 bytes is too large for this topic)"
    assert Origin.of(found[1]).offset == 1


def test_a_dead_letter_is_not_published_again_and_again(mock_cluster: MockCluster) -> None:
    with Producer(mock_cluster.url) as producer:
        again = Read(headers=origin_headers(Read(offset=1), "g", reason="bad"), topic="graveyard", offset=0)
        DeadLetters(producer, "graveyard").send([again, Read(offset=2)], "bad", "g")
    assert [Origin.of(record).offset for record in published(mock_cluster, "graveyard", 1)] == [2]


def test_a_refusal_is_raised(mock_cluster: MockCluster) -> None:
    mock_cluster.create_topic("graveyard", 1)
    with Producer(mock_cluster.url) as producer:
        mock_cluster.fail_next("Produce", "TOPIC_AUTHORIZATION_FAILED")
        with pytest.raises(PartialDeliveryError, match="TOPIC_AUTHORIZATION_FAILED"):
            DeadLetters(producer, "graveyard").send([Read()], "bad", "g")


def test_a_producer_made_for_it_is_made_when_needed_and_closed_with_it(mock_cluster: MockCluster) -> None:
    made: list[Producer] = []

    def make() -> Producer:
        made.append(Producer(mock_cluster.url))
        return made[-1]

    letters = DeadLetters(make)
    assert made == []
    letters.send([Read()], "bad", "g")
    letters.send([Read(offset=42)], "bad", "g")
    letters.close()
    letters.close()
    assert [producer.closed for producer in made] == [True]
    assert len(published(mock_cluster, "notifications.info.g.dead-letter", 2)) == 2
