"""Members share partitions, hooks are told, topics come later: nothing is lost."""

from __future__ import annotations

import gc
import logging
from contextlib import suppress

import pytest
from support.consuming import assigned, fill, take
from support.waiting import until

from rdknotify._rdknotify import live_handles
from rdknotify.consumer import Consumer
from rdknotify.errors import CommitFailed
from rdknotify.topics import TopicPartition


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


def test_a_closed_consumer_whose_hook_holds_batches_goes_at_once(mock_cluster, topic, producer):
    fill(producer)
    before = live_handles()["clients"]
    gc.disable()
    try:
        _consume_and_close(mock_cluster.url, topic)
        until(lambda: live_handles()["clients"] == before)
    finally:
        gc.enable()


def _consume_and_close(url, topic):
    held = []
    consumer = Consumer(url, [topic], "g", on_revoked=lambda partitions, lost: [batch.commit() for batch in held])
    until(lambda: held.append(consumer.poll(timeout=0.1)) or sum(map(len, held)) == 100)
    consumer.close()


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
    # Polling goes on: it is where the group's answer is taken.
    assert len(until(lambda: consumer.poll(timeout=0.1) is not None and consumer.assignment(), timeout=30)) == 4


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
