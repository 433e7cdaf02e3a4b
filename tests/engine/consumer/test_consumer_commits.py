"""Both commit modes: exactly the batch is committed, and what was not handed on comes again."""

from __future__ import annotations

from contextlib import suppress

import pytest
from support.consuming import assigned, fill, take
from support.waiting import until

from rdknotify.errors import CommitFailed, ConfigError, KafkaError, Timeout
from rdknotify.topics import TopicPartition


def test_exactly_the_batch_is_committed(make, producer):
    fill(producer)
    consumer = make(max_poll_records=10)
    first, second = until(lambda: consumer.poll(timeout=0.1)), until(lambda: consumer.poll(timeout=0.1))
    first.commit()
    ends = {TopicPartition(*position[:2]): position[2] for position in first.positions()}
    committed = consumer.committed()
    assert {partition: offset for partition, offset in committed.items() if offset is not None} == ends
    second.commit(wait=False)
    ends |= {TopicPartition(*position[:2]): position[2] for position in second.positions()}
    until(lambda: {key: value for key, value in consumer.committed().items() if value} == ends)


def test_what_was_not_committed_comes_again(make, producer):
    fill(producer)
    first = make(max_poll_records=10)
    seen = until(lambda: first.poll(timeout=0.1))
    seen.commit()
    until(lambda: first.poll(timeout=0.1))
    first.close()
    again = take(make(), 100 - len(seen))
    assert sorted([*map(int, seen.values()), *again]) == list(range(100))


def test_positions_of_several_batches_are_committed_at_once(make, producer):
    fill(producer)
    consumer = make(max_poll_records=20)
    positions = {}
    while sum(positions.values()) < 100:
        for topic, partition, offset, _ in consumer.poll(timeout=1).positions():
            positions[TopicPartition(topic, partition)] = offset
    consumer.commit(positions)
    assert consumer.committed() == positions
    consumer.commit([(topic, partition, 1, -1) for topic, partition in positions])
    assert set(consumer.committed().values()) == {1}


def test_a_commit_waits_for_a_coordinator_that_moves(make, producer, mock_cluster):
    error = "COORDINATOR_LOAD_IN_PROGRESS"
    fill(producer)
    consumer = make(commit_timeout=5)
    batch = until(lambda: consumer.poll(timeout=0.1))
    mock_cluster.fail_next("OffsetCommit", *[error] * 12)
    batch.commit()
    mock_cluster.fail_next("OffsetCommit", *[error] * 500)
    with pytest.raises(KafkaError):
        batch.commit(timeout=1)


def test_a_commit_waits_for_a_group_that_regroups(make, producer, mock_cluster):
    fill(producer)
    consumer = make()
    batch = until(lambda: consumer.poll(timeout=0.1))
    mock_cluster.fail_next("OffsetCommit", *["REBALANCE_IN_PROGRESS"] * 3)
    batch.commit()
    ends = {TopicPartition(*position[:2]): position[2] for position in batch.positions()}
    assert ends.items() <= consumer.committed().items()


def test_a_refused_commit_is_raised_and_can_be_repeated(make, producer, mock_cluster):
    fill(producer)
    consumer = make()
    batch = until(lambda: consumer.poll(timeout=0.1))
    mock_cluster.fail_next("OffsetCommit", "OFFSET_METADATA_TOO_LARGE")
    with pytest.raises(CommitFailed):
        batch.commit()
    batch.commit()


def test_a_partition_that_was_taken_away_is_not_committed(make, producer):
    fill(producer)
    first = make(max_poll_records=1000)
    batches = []
    until(lambda: batches.append(first.poll(timeout=0.1)) or sum(map(len, batches)) == 100)
    second = make()

    def shared():
        first.poll(timeout=0.05)
        second.poll(timeout=0.05)
        return len(first.assignment()) == len(second.assignment()) == 2

    until(shared, "each member has its share")
    kept = {*first.assignment()}
    wanted = {TopicPartition(*position[:2]) for batch in batches for position in batch.positions()}
    refused = set()
    for batch in batches:
        theirs = {TopicPartition(*position[:2]) for position in batch.positions()}
        try:
            batch.commit()
            assert theirs <= kept
        except CommitFailed as error:
            refused |= {partition for partition in theirs if f"{partition.topic}[{partition.partition}]" in str(error)}
    assert refused == wanted - kept
    committed = first.committed(sorted(wanted))
    assert {partition for partition, offset in committed.items() if offset is not None} == kept


def test_a_partition_that_came_back_does_not_take_an_old_commit(make, producer):
    fill(producer)
    consumer = make()
    batch = until(lambda: consumer.poll(timeout=0.1))
    generations = dict(consumer._generations)
    with consumer._assignment:
        consumer._generations = {partition: number + 1 for partition, number in generations.items()}
    with pytest.raises(CommitFailed, match="taken away"):
        batch.commit()
    assert set(consumer.committed().values()) == {None}


def test_a_batch_is_committed_before_it_is_returned(make, producer):
    fill(producer)
    consumer = make(commit="before")
    batch = until(lambda: consumer.poll(timeout=0.1))
    committed = consumer.committed()
    for topic, partition, offset, _ in batch.positions():
        assert committed[TopicPartition(topic, partition)] == offset
    with pytest.raises(ConfigError, match="before"):
        batch.commit()


@pytest.mark.parametrize("error", ["OFFSET_METADATA_TOO_LARGE", "INVALID_COMMIT_OFFSET_SIZE"])
def test_a_batch_whose_commit_fails_is_not_handed_out_and_comes_again(make, producer, mock_cluster, error):
    consumer = make(commit="before")
    assigned(consumer)
    fill(producer)
    mock_cluster.fail_next("OffsetCommit", error)
    with pytest.raises(CommitFailed):
        until(lambda: consumer.poll(timeout=0.1))
    assert sorted(take(consumer, 100)) == list(range(100))


def test_a_commit_that_meets_a_rebalance_is_no_error(make, producer, mock_cluster):
    consumer = make(commit="before")
    assigned(consumer)
    fill(producer)
    mock_cluster.fail_next("OffsetCommit", "REBALANCE_IN_PROGRESS")
    assert sorted(take(consumer, 100)) == list(range(100))


def test_a_commit_without_an_answer_hands_nothing_out(make, producer, mock_cluster):
    consumer = make(commit="before", commit_timeout=0.3, config={"session.timeout.ms": 30000})
    assigned(consumer)
    fill(producer, 10)
    mock_cluster.fail_next("OffsetCommit", "NO_ERROR", broker=1, delay=1.0)
    with pytest.raises(Timeout):
        until(lambda: consumer.poll(timeout=0.1))
    numbers = []

    def all_came():
        with suppress(Timeout):
            numbers.extend(map(int, consumer.poll(timeout=0.1).values()))
        return len(numbers) >= 10

    until(all_came)
    assert sorted(numbers) == list(range(10))


def test_a_batch_interrupted_by_ctrl_c_comes_again(make, producer, monkeypatch):
    consumer = make(commit="before")
    assigned(consumer)
    fill(producer)
    with monkeypatch.context() as patched:
        patched.setattr(consumer, "_commit", raise_interrupt)
        with pytest.raises(KeyboardInterrupt):
            until(lambda: consumer.poll(timeout=0.1))
    assert sorted(take(consumer, 100)) == list(range(100))


def raise_interrupt(*arguments, **options):
    raise KeyboardInterrupt
