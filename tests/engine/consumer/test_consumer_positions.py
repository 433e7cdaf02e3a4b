"""Where reading starts and goes on: late starts, pause, seek, lag."""

from __future__ import annotations

import time

import pytest
from support.consuming import assigned, fill, take
from support.waiting import until

from rdknotify.errors import KafkaError


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


def test_pause_and_resume(make, producer):
    consumer = make()
    mine = assigned(consumer)
    consumer.pause()
    fill(producer)
    assert not consumer.poll(timeout=0.5)
    consumer.resume(mine[:1])
    consumer.resume()
    assert len(take(consumer, 100)) == 100


def test_a_paused_partition_that_went_and_came_back_is_read(make, producer):
    consumer = make()
    assigned(consumer)
    consumer.pause()
    with make() as other:
        until(lambda: consumer.poll(timeout=0.05) is None or other.poll(timeout=0.05) is None or other.assignment())
        until(lambda: consumer.poll(timeout=0.05) is not None and len(consumer.assignment()) == 2)
        stayed = {tuple(partition) for partition in consumer.assignment()}
    mine = assigned(consumer)
    fill(producer)
    back = until(lambda: {origin[:2] for origin in consumer.poll(timeout=0.1).origins()})
    assert back and back <= {tuple(partition) for partition in mine} - stayed
    consumer.resume(list(mine))
    assert len(take(consumer, 1)) >= 1


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
