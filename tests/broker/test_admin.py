"""rdknotify.Admin on real Kafka: groups, offsets, lag, topics, settings; each thing with an answer of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from support.consuming import joined
from support.main_job import SOON, Kafka
from support.waiting import until

from rdknotify import Admin, ClosedError, ConfigError, Consumer, KafkaError, Producer, ShareConsumer, TopicPartition
from rdknotify.admin import Answer, PartitionLag, Topic

COUNT = 100
PARTITIONS = 3


@pytest.fixture
def admin(kafka: Kafka) -> Iterator[Admin]:
    with Admin(kafka.url) as admin:
        yield admin


@pytest.fixture
def filled(kafka: Kafka, topic: str) -> str:
    """A topic whose partition 0 has no record, 1 has all but one, 2 has one."""
    kafka.create_topic(topic, PARTITIONS)
    with Producer(kafka.url) as producer:
        key = {1: b"4", 2: b"0"}  # by murmur2
        for partition, count in ((1, COUNT - 1), (2, 1)):
            producer.send_batch(topic, [b"x"] * count, keys=[key[partition]] * count).result(SOON).raise_for_failures()
    return topic


def names(answers: dict[TopicPartition, Answer]) -> dict[int, str | int | None]:
    return {
        place.partition: answer.name if isinstance(answer, KafkaError) else answer for place, answer in answers.items()
    }


def by_partition(found: list[PartitionLag]) -> dict[int, tuple[int | None, int | None, int | None]]:
    return {each.partition: (each.committed, each.end, each.lag) for each in found}


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_with_its_members_and_what_they_read(
    kafka: Kafka, admin: Admin, filled: str, group: str, protocol: str
) -> None:
    with joined(kafka, filled, group, COUNT, protocol) as member:
        found = until(lambda: (told := admin.group(group)).state == "Stable" and told, timeout=SOON)
        (only,) = found.members
        assert found.type.lower() == protocol
        assert found.assignor
        assert found.coordinator in admin.cluster().nodes
        assert list(only.partitions) == [TopicPartition(filled, number) for number in range(PARTITIONS)]
        assert (only.client_id, only.host, only.instance_id) == ("rdknotify", "127.0.0.1", "")
        assert [(each.name, each.state) for each in admin.groups() if each.name == group] == [(group, "Stable")]
        assert {each.member for each in admin.lag(group)} == {only}

        refused = admin.reset_offsets(group, "beginning")
        assert set(names(refused).values()) == {"UNKNOWN_MEMBER_ID"}
        assert "has members: stop them" in str(refused[TopicPartition(filled, 1)])
        assert admin.delete_groups([group])[group].name == "NON_EMPTY_GROUP"
        assert member.committed()[TopicPartition(filled, 1)] == COUNT - 1
    assert until(lambda: (told := admin.group(group)).state == "Empty" and told, timeout=SOON).members == ()


def test_lag_with_and_without_commits_and_of_what_was_removed(
    kafka: Kafka, admin: Admin, filled: str, group: str
) -> None:
    joined(kafka, filled, group, COUNT).close()
    assert by_partition(admin.lag(group)) == {0: (None, 0, None), 1: (COUNT - 1, COUNT - 1, 0), 2: (1, 1, 0)}
    assert [each.lag for each in admin.lag(group, [filled])] == [None, 0, 0]
    assert admin.reset_offsets(group, {(filled, 1): 10}) == {TopicPartition(filled, 1): 10}
    assert by_partition(admin.lag(group))[1] == (10, COUNT - 1, COUNT - 11)

    removed = admin.delete_records({(filled, 1): 30, (filled, 9): 1})
    assert names(removed) == {1: 30, 9: "_UNKNOWN_PARTITION"}
    behind = admin.lag(group)[1]
    assert (behind.begin, behind.lag, behind.missed) == (30, COUNT - 31, 20)
    assert admin.lag("nobody-knows-it") == []
    assert admin.group("nobody-knows-it").state == "Dead"


def test_offsets_are_reset_to_places_and_times(kafka: Kafka, admin: Admin, filled: str, group: str) -> None:
    joined(kafka, filled, group, COUNT).close()
    assert names(admin.reset_offsets(group, "beginning")) == {1: 0, 2: 0}
    assert names(admin.reset_offsets(group, time.time() + 60)) == {1: COUNT - 1, 2: 1}
    assert names(admin.reset_offsets(group, datetime.now() - timedelta(hours=1), only=[filled])) == {0: 0, 1: 0, 2: 0}
    assert names(admin.reset_offsets(group, "end", only=[filled])) == {0: 0, 1: COUNT - 1, 2: 1}
    with Consumer(kafka.url, [filled], group) as member:
        until(lambda: member.poll(timeout=0.1) is not None and member.assignment(), timeout=SOON)
        assert member.committed()[TopicPartition(filled, 1)] == COUNT - 1
    with pytest.raises(ConfigError, match="no partition to reset"):
        admin.reset_offsets("nobody-knows-it", "beginning")
    with pytest.raises(ConfigError, match="'beginning', 'end', a datetime"):
        admin.reset_offsets(group, "yesterday")  # type: ignore[arg-type]
    until(lambda: admin.delete_groups([group]) == {group: None}, timeout=SOON)
    assert group not in [each.name for each in admin.groups()]


def test_topics_are_created_described_and_deleted(admin: Admin, topic: str) -> None:
    other = f"{topic}-other"
    admin.create_topic(topic, 2, 1, {"retention.ms": "60000"})
    answers = admin.create_topics([(topic, 1, 1, {}), (other, -1, -1, {"no.such": "1"})])
    assert answers[topic].name == "TOPIC_ALREADY_EXISTS"
    assert answers[other].name == "INVALID_CONFIG"
    with pytest.raises(KafkaError, match="TOPIC_ALREADY_EXISTS"):
        admin.create_topic(topic)

    found = until(lambda: _described(admin, topic), timeout=SOON)
    assert [(each.number, each.leader is not None, len(each.in_sync)) for each in found.partitions] == [
        (0, True, 1),
        (1, True, 1),
    ]
    assert admin.topics()[topic] == found
    settings = admin.settings(topic)
    assert settings["retention.ms"] == ("60000", True)
    assert not settings["max.message.bytes"].own
    assert int(settings["max.message.bytes"].value or 0) > 0

    deleted = admin.delete_topics([topic, other])
    assert deleted[topic] is None
    assert deleted[other].name == "UNKNOWN_TOPIC_OR_PART"
    until(lambda: topic not in admin.topics(), timeout=SOON)
    for ask in (admin.describe, admin.settings):
        with pytest.raises(KafkaError, match="UNKNOWN_TOPIC_OR_PART"):
            ask(other)


def _described(admin: Admin, name: str) -> Topic | None:
    found = admin.topics([name])[name]
    return found if isinstance(found, Topic) else None


def test_share_groups_are_left_out(kafka: Kafka, admin: Admin, filled: str, group: str) -> None:
    with ShareConsumer(kafka.url, [filled], group) as member:
        member.poll(timeout=SOON)
        assert group not in [each.name for each in admin.groups()]
        assert admin.group(group).members == ()


def test_wrong_use_names_what_is_wrong(kafka: Kafka, admin: Admin) -> None:
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: admin.topics("orders"), "a list of names"),
        (lambda: admin.describe("or ders"), "Kafka allows only letters"),
        (lambda: admin.group(""), "not the name of a group"),
        (lambda: admin.delete_groups(["a\0b"]), "not the name of a group"),
        (lambda: admin.find_offsets([("orders", 0)], -5.0), "seconds since the epoch"),
        (lambda: Admin(kafka.url, linger=1), "an admin has none of this name"),
    ]
    for call, text in wrong:
        with pytest.raises(ConfigError, match=text):
            call()
    assert admin.describe_groups([]) == admin.find_offsets([]) == admin.topics([]) == admin.delete_topics([]) == {}


def test_a_closed_one_says_so_and_one_forgotten_warns(kafka: Kafka) -> None:
    admin = Admin(kafka.url)
    assert admin.cluster().controller in admin.cluster().nodes
    admin.close()
    admin.close()
    with pytest.raises(ClosedError):
        admin.groups()
    forgotten = Admin(kafka.url)
    with pytest.warns(ResourceWarning, match=f"{forgotten.name} was not closed"):
        del forgotten
