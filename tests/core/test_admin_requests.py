"""An administrator's requests of the core, as far as the embedded cluster knows them; nothing native is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from rdknotify import _rdknotify as core
from rdknotify.errors import ClosedError, KafkaError

LIST_OFFSETS = 2
OFFSET_FETCH = 9
NOT_AUTHORIZED = 30
COUNT = 100


@pytest.fixture
def admin(mock: core.MockCluster) -> Iterator[core.Admin]:
    client = core.Admin({"bootstrap.servers": mock.bootstrap_servers})
    yield client
    client.shut()


@pytest.fixture
def filled(producer: core.Producer, topic: str) -> int:
    keys = [b"%d" % number for number in range(COUNT)]
    producer.send_batch(topic, keys, keys=keys).result(10).raise_for_failures()
    return COUNT


def names(answers: dict[str, object]) -> dict[str, str | None]:
    return {key: answer.name if isinstance(answer, KafkaError) else None for key, answer in answers.items()}


def test_offsets_of_many_partitions_each_with_its_answer(admin: core.Admin, topic: str, filled: int) -> None:
    partitions = [(topic, partition) for partition in range(4)]
    begins = admin.list_offsets([(*partition, -2) for partition in partitions])
    ends = admin.list_offsets([(*partition, -1) for partition in [*partitions, (topic, 9), ("nowhere", 0)]])
    assert begins == dict.fromkeys(partitions, 0)
    assert sum(ends[partition] for partition in partitions) == filled
    assert ends[topic, 9].name == "_UNKNOWN_PARTITION"
    assert ends["nowhere", 0].name == "UNKNOWN_TOPIC_OR_PART"
    assert "nowhere [0]" in str(ends["nowhere", 0])
    assert admin.list_offsets([]) == {}


def test_a_group_s_offsets_are_committed_and_asked_for(admin: core.Admin, topic: str) -> None:
    asked = [(topic, 0), (topic, 3)]
    assert admin.group_offsets("group", asked) == {(topic, 0): None, (topic, 3): None}
    assert admin.alter_group_offsets("group", [(topic, 0, 7)]) == {(topic, 0): 7}
    assert admin.group_offsets("group", asked) == {(topic, 0): 7, (topic, 3): None}


def test_topics_and_the_cluster_are_described(admin: core.Admin, mock: core.MockCluster, topic: str) -> None:
    told = admin.describe_topics([topic, "nowhere"])
    identity, internal, partitions = told[topic]
    assert identity
    assert not internal
    assert partitions == [(number, 1, [1], [1]) for number in range(4)]
    assert told["nowhere"].name == "UNKNOWN_TOPIC_OR_PART"
    cluster, controller, nodes = admin.describe_cluster()
    assert cluster.startswith("mockCluster")
    assert nodes == [controller]
    number, host, port = nodes[0]
    assert (number, f"{host}:{port}") == (1, mock.bootstrap_servers)


def test_a_partition_without_a_leader_is_told_so(admin: core.Admin, mock: core.MockCluster, topic: str) -> None:
    mock.set_leader(topic, 2, -1)
    _, _, partitions = admin.describe_topics([topic])[topic]
    assert [leader for _, leader, _, _ in partitions] == [1, 1, None, 1]


def test_wrong_arguments_are_refused_and_leave_nothing_behind(admin: core.Admin, topic: str) -> None:
    for wrong in (None, 3, ["a", None], [b"a"]):
        for ask in (admin.describe_groups, admin.delete_groups, admin.describe_topics, admin.describe_configs):
            with pytest.raises(TypeError):
                ask(wrong)
    for wrong in ([(topic,)], [(topic, "0", 1)], [(1, 2, 3)], [(topic, 2**40, 0)]):
        for ask in (admin.list_offsets, admin.delete_records, lambda offsets: admin.alter_group_offsets("g", offsets)):
            with pytest.raises((TypeError, IndexError, OverflowError)):
                ask(wrong)
    with pytest.raises(TypeError):
        admin.group_offsets(None)
    with pytest.raises(ValueError, match="timeout"):
        admin.describe_cluster(timeout=-1)
    for ask in (admin.describe_groups, admin.delete_groups, admin.describe_configs):
        with pytest.raises(KafkaError, match="_INVALID_ARG"):
            ask([])
    with pytest.raises(KafkaError, match="duplicate"):
        admin.list_offsets([(topic, 0, -1), (topic, 0, -2)])
    with pytest.raises(KafkaError, match=">= 0"):
        admin.alter_group_offsets("g", [(topic, 0, -5)])


def test_one_partition_s_refusal_does_not_hide_the_others(
    admin: core.Admin, mock: core.MockCluster, topic: str, filled: int
) -> None:
    mock.push_request_errors(LIST_OFFSETS, [NOT_AUTHORIZED])
    mock.push_request_errors(OFFSET_FETCH, [NOT_AUTHORIZED])
    refused = admin.list_offsets([(topic, partition, -1) for partition in range(4)])
    assert names(refused) == dict.fromkeys([(topic, number) for number in range(4)], "GROUP_AUTHORIZATION_FAILED")
    with pytest.raises(KafkaError, match="GROUP_AUTHORIZATION_FAILED"):
        admin.group_offsets("group", [(topic, 0)])
    assert sum(admin.list_offsets([(topic, partition, -1) for partition in range(4)]).values()) == filled


def test_a_silent_broker_is_a_timeout(admin: core.Admin, mock: core.MockCluster, topic: str) -> None:
    admin.describe_cluster()
    mock.set_broker_rtt(1, 60_000)
    begun = time.monotonic()
    with pytest.raises(KafkaError, match="_TIMED_OUT"):
        admin.describe_topics([topic], timeout=0.3)
    assert time.monotonic() - begun < 5


def test_closing_ends_the_wait_of_another_thread(
    admin: core.Admin, mock: core.MockCluster, topic: str, until: Callable[..., None]
) -> None:
    admin.describe_cluster()
    mock.set_broker_rtt(1, 60_000)
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            admin.describe_topics([topic], timeout=60)
        except KafkaError as error:
            raised.append(error)
        except ClosedError as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.2)  # either way is right; this makes the wait likely
    admin.shut()
    thread.join(10)
    assert [type(error) for error in raised] == [ClosedError]
    with pytest.raises(ClosedError):
        admin.describe_cluster()
