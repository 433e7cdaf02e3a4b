"""Group membership, positions and commits of the core's consumer."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from rdknotify.errors import CommitFailed, KafkaError, Timeout

OFFSET_COMMIT = 8
OFFSET_FETCH = 9
ILLEGAL_GENERATION = 22


@pytest.fixture(params=["classic", "consumer"])
def protocol(request):
    return {"group.protocol": request.param}


def fill(producer, topic, count=100):
    keys = [b"%d" % i for i in range(count)]
    producer.send_batch(topic, keys, keys=keys).result(10).raise_for_failures()


def test_a_member_is_given_all_partitions_then_shares_them(producer, join, topic, protocol, until):
    first = join(**protocol)
    assert sorted(first.assigned(4)) == [(topic, partition) for partition in range(4)]
    second = join(**protocol)

    def shared():
        first.step(0.05)
        second.step(0.05)
        return len(first.client.assignment()) == len(second.client.assignment()) == 2

    until(shared, "each member has two partitions")
    assert not {*first.client.assignment()} & {*second.client.assignment()}
    assert all(incremental for _, _, incremental in first.rebalances)
    assert [kind for kind, _, _ in first.rebalances][:2] == ["assign", "revoke"]
    assert second.leave()
    first.assigned(4)


def test_the_eager_protocol_gives_everything_up_in_between(join, until):
    first = join(**{"partition.assignment.strategy": "range"})
    first.assigned(4)
    second = join(**{"partition.assignment.strategy": "range"})

    def shared():
        first.step(0.05)
        second.step(0.05)
        return len(first.client.assignment()) == len(second.client.assignment()) == 2

    until(shared, "each member has two partitions")
    assert not any(incremental for _, _, incremental in first.rebalances)
    assert ("revoke", 4) in [(kind, len(partitions)) for kind, partitions, _ in first.rebalances]


def test_leaving_gives_partitions_up_in_order(join, protocol):
    member = join(**protocol)
    member.assigned(4)
    assert member.leave()
    assert [kind for kind, _, _ in member.rebalances] == ["assign", "revoke"]
    assert len(member.rebalances[-1][1]) == 4


def test_leaving_without_a_group_to_leave(join):
    assert join().leave()


def test_leaving_is_bounded_while_the_broker_is_silent(mock, join):
    member = join()
    member.assigned(4)
    mock.set_broker_rtt(1, 60_000)
    begun = time.monotonic()
    member.leave(0.5)
    member.client.shut(1)
    assert time.monotonic() - begun < 2.5


def test_nothing_is_lost_when_a_member_comes_and_goes(producer, join, topic):
    first, second = join(), join()
    values = set()

    def take(member):
        batch = member.step(0.02, 7)
        if batch:
            values.update(map(int, batch.values()))
            with suppress(CommitFailed):  # a rebalance came in between: they come again
                member.client.commit(batch.positions(), 5)

    for number in range(300):
        producer.send(topic, b"%d" % number)
        take(first)
        if number < 100:
            take(second)
        elif number == 100:
            assert second.leave()
    deadline = time.monotonic() + 15
    while len(values) < 300:
        assert time.monotonic() < deadline, f"missing: {set(range(300)) - values}"
        take(first)


def test_a_topic_that_does_not_exist_yet_is_read_from_its_first_record(mock, producer, join):
    member = join(["later"])
    member.step(0.5)
    mock.create_topic("later", 2)
    producer.send_batch("later", [b"first", b"second"])
    begun = time.monotonic()
    assert {record.value for record in member.records(2)} == {b"first", b"second"}
    assert time.monotonic() - begun < 5


def test_a_regex_finds_topics_old_and_new_within_about_a_second(mock, producer, join, topic):
    member = join(["^rec.*"], **{"session.timeout.ms": "1200"})  # the mock rebalances in 0.2 s then
    member.assigned(4)
    mock.create_topic("recent", 2)
    mock.create_topic("other", 2)
    begun = time.monotonic()
    found = member.assigned(6, timeout=5)
    assert time.monotonic() - begun < 3
    assert {name for name, _ in found} == {topic, "recent"}


def test_a_resumed_partition_is_fetched_at_once(producer, join, topic):
    member = join(**{"fetch.wait.max.ms": "100"})
    mine = member.assigned(4)
    for _ in range(4):
        member.client.pause(mine)
        time.sleep(0.3)  # until no fetch is on its way any more
        producer.send(topic, b"v").result(10)
        begun = time.monotonic()
        member.client.resume(mine)
        member.records(1)
        assert time.monotonic() - begun < 0.4


def test_pause_and_resume(producer, join, topic):
    member = join()
    mine = member.assigned(4)
    member.client.pause(mine)
    fill(producer, topic)
    assert not any(member.step(0.05) for _ in range(10))
    member.client.resume(mine)
    assert len(member.records(100)) == 100


def test_seek_goes_back_and_forth(producer, join, topic):
    fill(producer, topic)
    member = join()
    member.records(100)
    where = member.client.assignment()
    member.client.seek([(*partition, 0) for partition in where])
    assert len(member.records(100)) == 100
    ends = {partition: member.client.watermarks(*partition)[1] for partition in where}
    member.client.seek([(*partition, end - 1) for partition, end in ends.items()])
    assert sorted(record.offset for record in member.records(4)) == sorted(end - 1 for end in ends.values())
    member.client.seek([(*where[0], -2)])
    assert member.records(1)[0].offset == 0


def test_seeking_what_is_not_assigned_is_an_error(join):
    member = join()
    member.assigned(4)
    with pytest.raises(KafkaError):
        member.client.seek([("records", 99, 0)], 1)


def test_offsets_positions_and_commits_agree(producer, join, topic):
    fill(producer, topic)
    member = join()
    batches = member.batches(100)
    where = member.client.assignment()
    assert member.client.committed(where) == dict.fromkeys(where)
    ends = {partition: member.client.watermarks(*partition) for partition in where}
    assert sum(high for _, high in ends.values()) == 100
    assert member.client.positions(where) == {partition: high for partition, (_, high) in ends.items()}
    for batch in batches:
        member.client.commit(batch.positions(), 5)
    assert member.client.committed(where) == {partition: high for partition, (_, high) in ends.items()}
    member.leave()
    following = join()
    assert len(following.assigned(4)) == 4
    assert not any(following.step(0.05) for _ in range(5))


def test_a_commit_that_is_only_sent_arrives(producer, join, topic, until):
    member = join()
    where = member.assigned(4)
    member.client.commit([(*where[0], 42, -1)], wait=False)
    until(lambda: member.client.committed(where[:1])[where[0]] == 42, "the offset is committed")


def test_committing_nothing_asks_nobody(mock, join):
    member = join()
    mock.set_broker_up(1, False)
    member.client.commit([], 5)


@pytest.mark.parametrize(
    ("code", "name"), [(ILLEGAL_GENERATION, "ILLEGAL_GENERATION"), (12, "OFFSET_METADATA_TOO_LARGE")]
)
def test_a_refused_commit_raises(mock, join, code, name):
    member = join()
    where = member.assigned(4)
    mock.push_request_errors(OFFSET_COMMIT, [code])
    with pytest.raises(CommitFailed) as caught:
        member.client.commit([(*where[0], 1, -1)], 5)
    assert caught.value.name == name


def test_a_commit_without_an_answer_times_out(mock, join):
    member = join()
    where = member.assigned(4)
    mock.set_broker_rtt(1, 60_000)
    begun = time.monotonic()
    with pytest.raises(Timeout):
        member.client.commit([(*where[0], 1, -1)], 0.4)
    assert time.monotonic() - begun < 1.2


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.metadata(timeout=0.4),
        lambda client: client.committed([("records", 0)], 0.4),
        lambda client: client.watermarks("records", 0, 0.4),
        lambda client: client.offsets_for_times([("records", 0, 0)], 0.4),
    ],
    ids=["metadata", "committed", "watermarks", "offsets_for_times"],
)
def test_requests_time_out_while_the_broker_is_silent(mock, join, ask):
    member = join()
    member.assigned(4)
    mock.set_broker_rtt(1, 60_000)
    begun = time.monotonic()
    with pytest.raises(KafkaError) as caught:
        ask(member.client)
    assert caught.value.retriable
    assert time.monotonic() - begun < 1.5


def test_metadata(mock, producer, topic):
    found = producer.metadata()
    assert [number for number, _, _ in found["brokers"]] == [1]
    assert found["topics"][topic] == dict.fromkeys(range(4), 1)
    mock.set_topic_error("denied", 29)
    assert producer.metadata("denied")["errors"] == {"denied": 29}
    assert producer.cluster_reachable(2)
    mock.set_broker_up(1, False)
    assert not producer.cluster_reachable(0.3)


def test_authorization_errors_come_as_errors(mock, join, until):
    mock.set_topic_error("denied", 29)
    member = join(["denied"])

    def denied():
        member.step(0.1)
        return [error for error in member.errors if error.name == "TOPIC_AUTHORIZATION_FAILED"]

    error = until(denied, "the refusal is reported")[0]
    assert not error.retriable
    assert "denied" in error.reason
