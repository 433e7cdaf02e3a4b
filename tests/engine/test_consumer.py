"""The consumer that users make: both commit modes, rebalances and their hooks, starts, positions, the end.

One member a group where it can be: the mock's classic group takes a second or more for each further rebalance.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from contextlib import suppress

import pytest
from support.waiting import until

from rdknotify.consumer import Batch, Consumer
from rdknotify.errors import ClosedError, CommitFailed, ConfigError, KafkaError, Timeout
from rdknotify.producer import Producer
from rdknotify.topics import TopicPartition

QUICK = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 200}


@pytest.fixture
def topic(mock_cluster):
    mock_cluster.create_topic("t", 4)
    return "t"


@pytest.fixture
def producer(mock_cluster):
    with Producer(mock_cluster.url) as producer:
        yield producer


@pytest.fixture
def make(mock_cluster, topic):
    """``make(**options)``: a consumer of group ``g`` and topic ``t``, closed at the end of the test."""
    made = []

    def make(*, topics=(topic,), group="g", config=None, **options):
        classic = options.get("group_protocol") != "consumer"
        config = {**(QUICK if classic else {}), **(config or {})}
        made.append(Consumer(mock_cluster.url, list(topics), group, config=config, **options))
        return made[-1]

    yield make
    mock_cluster.delay(0)
    for consumer in made:
        consumer.close()


def fill(producer, count=100, topic="t", first=0):
    numbers = [b"%d" % i for i in range(first, first + count)]
    producer.send_batch(topic, numbers, keys=numbers).result(10).raise_for_failures()


def take(consumer, count, commit=False):
    """The numbers in at least ``count`` records."""
    numbers = []

    def enough():
        batch = consumer.poll(timeout=0.1)
        numbers.extend(map(int, batch.values()))
        if commit and batch:
            batch.commit()
        return len(numbers) >= count

    until(enough, f"{count} records came")
    return numbers


def assigned(consumer, count=4):
    def poll():
        assert not consumer.poll(timeout=0.05), "nothing was sent yet"
        return len(consumer.assignment()) == count

    until(poll, f"{count} partitions are assigned")
    return consumer.assignment()


# -- polling ----------------------------------------------------------------------------------------------------------


def test_every_record_comes_once(make, producer):
    fill(producer, 1000)
    assert sorted(take(make(), 1000)) == list(range(1000))


def test_poll_returns_with_the_first_record_and_with_no_more_than_asked(make, producer):
    consumer = make()
    assigned(consumer)
    threading.Timer(0.3, fill, (producer, 50)).start()
    begun = time.monotonic()
    batch = consumer.poll(max_records=5, timeout=10)
    assert time.monotonic() - begun < 2
    assert 1 <= len(batch) <= 5
    assert isinstance(batch, Batch)


def test_an_empty_batch_comes_at_the_timeout(make):
    consumer = make()
    assigned(consumer)
    begun = time.monotonic()
    batch = consumer.poll(timeout=0.4)
    assert 0.4 <= time.monotonic() - begun < 0.8
    assert not batch
    batch.commit()


def test_poll_goes_on_waiting_after_a_rebalance(make, producer):
    fill(producer)
    assert make().poll(timeout=10)


def test_max_poll_records_is_the_default(make, producer):
    fill(producer, 100)
    consumer = make(max_poll_records=7)
    sizes = []
    until(lambda: sizes.append(len(consumer.poll(timeout=0.1))) or sum(sizes) == 100)
    assert max(sizes) == 7


@pytest.mark.parametrize("value", [0, -1])
def test_max_records_below_one_is_refused(make, value):
    with pytest.raises(ConfigError, match="max_records"):
        make().poll(max_records=value)


def test_iteration_yields_batches_until_another_thread_closes(make, producer):
    fill(producer)
    consumer = make()
    numbers = []
    for batch in consumer:
        numbers += map(int, batch.values())
        if len(numbers) == 100:
            threading.Timer(0.2, consumer.close).start()
    assert sorted(numbers) == list(range(100))
    until(lambda: consumer.closed, "the other thread has closed it")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"topics": "t"}, "topics='t'"),
        ({"topics": []}, "topics="),
        ({"topics": ["a b"]}, "a b"),
        ({"topics": ["t"], "commit": "later"}, "commit='later'"),
        ({"topics": ["t"], "start": "middle"}, "start"),
        ({"topics": ["t"], "linger": 1}, "linger"),
        ({"topics": ["t"], "config": {"enable.auto.commit": True}}, "enable.auto.commit"),
    ],
)
def test_what_is_wrong_is_named(mock_cluster, arguments, text):
    with pytest.raises(ConfigError, match=text):
        Consumer(mock_cluster.url, **arguments)


# -- commit="after" ---------------------------------------------------------------------------------------------------


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


# -- commit="before" --------------------------------------------------------------------------------------------------


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


# -- rebalances and hooks ---------------------------------------------------------------------------------------------


def test_hooks_are_told_what_comes_and_what_goes(make):
    events = []
    consumer = make(
        on_assigned=lambda partitions: events.append(("assigned", sorted(partitions))),
        on_revoked=lambda partitions, lost: events.append(("revoked", sorted(partitions), lost)),
    )
    mine = sorted(assigned(consumer))
    assert all(isinstance(partition, TopicPartition) for partition in mine)
    consumer.close()
    assert events == [("assigned", mine), ("revoked", mine, False)]


def test_on_assigned_says_where_to_start(make, producer):
    fill(producer)
    everything = {}
    with_offsets = make(on_assigned=lambda partitions: dict.fromkeys(partitions, 5))
    until(lambda: [everything.setdefault(r.offset) for r in with_offsets.poll(timeout=0.1)])
    assert min(everything) == 5


def test_partitions_not_named_start_at_the_committed_offset(make, producer):
    fill(producer)
    with make() as first:
        assert len(take(first, 100, commit=True)) == 100
    partition = TopicPartition("t", 2)
    consumer = make(on_assigned=lambda partitions: {partition: 0})
    batch = until(lambda: consumer.poll(timeout=0.1))
    assert {origin[:2] for origin in batch.origins()} == {partition}


def test_an_exception_of_on_assigned_comes_out_of_poll_and_nothing_is_read(make, producer):
    fill(producer)
    calls = []

    def restore(partitions):
        calls.append(partitions)
        if len(calls) < 3:
            raise LookupError("the database is away")
        return dict.fromkeys(partitions, 0)

    consumer = make(on_assigned=restore)
    for _ in range(2):
        with pytest.raises(LookupError):
            until(lambda: consumer.poll(timeout=0.2))
    assert consumer.assignment() == []
    assert sorted(take(consumer, 100)) == list(range(100))
    assert len(calls) == 3


def test_on_revoked_may_still_commit(make, producer):
    fill(producer)
    held = []
    consumer = make(on_revoked=lambda partitions, lost: [batch.commit() for batch in held])
    until(lambda: held.append(consumer.poll(timeout=0.1)) or sum(map(len, held)) == 100)
    consumer.close()
    following = make()
    assigned(following)


def test_an_exception_of_on_revoked_comes_out_after_the_partitions_went(make):
    def flush(partitions, lost):
        raise LookupError("mine")

    first = make(on_revoked=flush)
    assigned(first)
    with pytest.raises(LookupError, match="mine"):
        first.close()
    assert first.closed
    assigned(make())


def test_lost_partitions_are_told_and_cannot_be_committed(make, producer, mock_cluster):
    fill(producer)
    told = []

    def flush(partitions, lost):
        told.append((len(partitions), lost))
        if lost:
            with pytest.raises(CommitFailed, match="taken away"):
                batch.commit()

    consumer = make(on_revoked=flush)
    batch = until(lambda: consumer.poll(timeout=0.1))
    mock_cluster.fail_next("Heartbeat", "UNKNOWN_MEMBER_ID")
    until(lambda: consumer.poll(timeout=0.1) is None or told, "the loss is told")
    assert told == [(4, True)]
    assert len(until(consumer.assignment if consumer.poll(timeout=3) is not None else list)) == 4


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_members_share_and_nothing_is_lost(make, producer, protocol):
    fill(producer, 200)
    members = [make(group_protocol=protocol, max_poll_records=20) for _ in range(2)]
    seen = set()

    def work():
        for member in members:
            batch = member.poll(timeout=0.02)
            seen.update(map(int, batch.values()))
            with suppress(CommitFailed):  # a rebalance came in between: they come again
                batch.commit()
        return len(seen) >= 200 and all(len(member.assignment()) == 2 for member in members)

    until(work, "both have a share and everything was seen", 25)
    members.pop().close()
    fill(producer, 100, first=200)
    until(lambda: (work(), len(seen) == 300)[1], "the other took everything over", 25)


def test_a_topic_that_does_not_exist_yet(make, producer, mock_cluster, caplog):
    with caplog.at_level(logging.WARNING, "rdknotify"):
        consumer = make(topics=["later"])
        assert not consumer.poll(timeout=2.5)
    assert len([record for record in caplog.records if "later" in record.getMessage()]) == 1
    mock_cluster.create_topic("later", 2)
    fill(producer, 10, "later")
    assert sorted(take(consumer, 10)) == list(range(10))


def test_a_regular_expression(make, producer, mock_cluster):
    consumer = make(topics=["^t.*"], config={"session.timeout.ms": 1200})
    assigned(consumer)
    mock_cluster.create_topic("tx", 2)
    fill(producer, 10, "tx")
    assert sorted(take(consumer, 10)) == list(range(10))


# -- starts -----------------------------------------------------------------------------------------------------------


def test_latest_begins_at_the_end_of_what_exists_and_says_so_to_the_group(make, producer):
    fill(producer, 40)
    with make(start="latest") as consumer:
        assigned(consumer)
        ends = consumer.committed()
        assert sum(ends.values()) == 40
        assert consumer.lag() == dict.fromkeys(ends, 0)
    fill(producer, 10, first=40)
    assert sorted(take(make(start="latest"), 10)) == list(range(40, 50))


def test_latest_loses_nothing_of_a_topic_made_later(make, producer, mock_cluster):
    consumer = make(topics=["later"], start="latest")
    assert not consumer.poll(timeout=0.2)
    mock_cluster.create_topic("later", 2)
    fill(producer, 10, "later")
    assert sorted(take(consumer, 10)) == list(range(10))


def test_latest_goes_on_from_what_is_committed(make, producer):
    fill(producer, 40)
    with make() as consumer:
        take(consumer, 40, commit=True)
    fill(producer, 10, first=40)
    assert sorted(take(make(start="latest"), 10)) == list(range(40, 50))


# -- positions --------------------------------------------------------------------------------------------------------


def test_pause_and_resume(make, producer):
    consumer = make()
    mine = assigned(consumer)
    consumer.pause()
    fill(producer)
    assert not consumer.poll(timeout=0.5)
    consumer.resume(mine[:1])
    consumer.resume()
    assert len(take(consumer, 100)) == 100


def test_lag_counts_what_was_not_polled(make, producer):
    fill(producer)
    consumer = make(max_poll_records=10)
    batch = until(lambda: consumer.poll(timeout=0.1))
    assert sum(consumer.lag().values()) == 100 - len(batch)
    take(consumer, 100 - len(batch))
    assert set(consumer.lag().values()) == {0}
    fill(producer, 7)
    assert sum(consumer.lag().values()) >= 0
    until(lambda: consumer.poll(timeout=0.1) is not None and sum(consumer.lag().values()) == 0)


def test_seek_right_after_the_assignment(make, producer):
    fill(producer)
    consumer = make()
    until(lambda: consumer.poll(1, timeout=0.05) is not None and consumer.assignment())
    for partition in consumer.assignment():
        consumer.seek(*partition, 0)
    assert sorted(take(consumer, 100)) == list(range(100))
    assert consumer.position() == {p: offset for p, offset in consumer.position().items() if offset}


def test_seeking_what_is_not_assigned_is_refused(make):
    consumer = make()
    assigned(consumer)
    with pytest.raises(KafkaError):
        consumer.seek("t", 99, 0, timeout=1)


def test_replay_from_the_future_waits_for_the_next_record(make, producer):
    fill(producer, 40)
    consumer = make()
    assigned_now = until(lambda: consumer.poll(timeout=0.1)) and consumer.assignment()
    consumer.seek_to_time(time.time() + 3600)
    fill(producer, 40, first=40)
    assert len(assigned_now) == 4
    assert {40, 79} <= {*take(consumer, 40)}


# -- the end ----------------------------------------------------------------------------------------------------------


def test_closing_is_idempotent_and_final(make):
    consumer = make()
    consumer.poll(timeout=0.1)
    consumer.close()
    consumer.close()
    assert consumer.closed
    assert consumer.name
    for use in (consumer.poll, consumer.assignment, consumer.lag, lambda: consumer.commit({TopicPartition("t", 0): 1})):
        with pytest.raises(ClosedError):
            use()
    assert list(consumer) == []


def test_closing_leaves_the_group_at_once(make):
    with make() as first:
        assigned(first)
    begun = time.monotonic()
    assigned(make())
    assert time.monotonic() - begun < 2.5


def test_closing_is_bounded_while_the_broker_is_silent(make, mock_cluster):
    consumer = make()
    assigned(consumer)
    mock_cluster.delay(60)
    begun = time.monotonic()
    consumer.close(0.5)
    assert time.monotonic() - begun < 2


def test_closing_ends_the_poll_of_another_thread(make):
    consumer = make()
    assigned(consumer)
    returned = []
    thread = threading.Thread(target=lambda: returned.append(consumer.poll(timeout=60)))
    thread.start()
    time.sleep(0.2)
    begun = time.monotonic()
    consumer.close()
    thread.join(5)
    assert time.monotonic() - begun < 2
    assert len(returned) == 1 and not returned[0]


def test_a_consumer_closed_before_its_first_poll(make):
    make().close()


def test_a_batch_outlives_its_consumer(make, producer):
    fill(producer, 10)
    consumer = make()
    batch = until(lambda: consumer.poll(timeout=0.1))
    consumer.close()
    assert batch.values()
    assert batch[0].topic == "t"
    with pytest.raises(ClosedError):
        batch.commit()


def test_a_forgotten_consumer_is_warned_of(mock_cluster, topic):
    consumer = Consumer(mock_cluster.url, [topic], "g")
    consumer.poll(timeout=0.1)
    with pytest.warns(ResourceWarning, match=f"{consumer.name} was not closed"):
        del consumer
    gc.collect()


# -- errors -----------------------------------------------------------------------------------------------------------


def test_a_topic_that_may_not_be_read_is_raised(make, mock_cluster):
    mock_cluster.fail_topic("denied", "TOPIC_AUTHORIZATION_FAILED")
    consumer = make(topics=["denied"])
    with pytest.raises(KafkaError) as caught:
        until(lambda: consumer.poll(timeout=0.2))
    assert caught.value.name == "TOPIC_AUTHORIZATION_FAILED"
    assert "denied" in str(caught.value)


def test_an_outage_is_not_raised_and_passes(make, producer, mock_cluster):
    consumer = make(config={"session.timeout.ms": 30000})
    assigned(consumer)
    mock_cluster.broker_down(1)
    assert not consumer.poll(timeout=1)
    mock_cluster.broker_up(1)
    fill(producer, 10)
    assert sorted(take(consumer, 10)) == list(range(10))


def test_a_fatal_error_is_raised_and_close_works(make, mock_cluster):
    consumer = make(config={"group.instance.id": "static-1"})
    assigned(consumer)
    mock_cluster.fail_next("Heartbeat", "FENCED_INSTANCE_ID")
    with pytest.raises(KafkaError, match="fenced"):
        until(lambda: consumer.poll(timeout=0.2))
    consumer.close()
    assert consumer.closed
