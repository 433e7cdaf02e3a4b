"""The end of a consumer: bounded, final, at once for the group."""

from __future__ import annotations

import gc
import threading
import time

import pytest
from support.consuming import assigned, fill
from support.waiting import until

from rdknotify.consumer import Consumer
from rdknotify.errors import ClosedError
from rdknotify.topics import TopicPartition


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


@pytest.mark.parametrize("pause", [0, 0.02, 0.05, 0.1, 0.3])
def test_closing_before_the_assignment_was_answered(make, pause):
    consumer = make()
    time.sleep(pause)
    begun = time.monotonic()
    consumer.close()
    assert time.monotonic() - begun < 3


def test_closing_while_on_assigned_fails(make):
    def restore(partitions):
        raise LookupError("the database is away")

    revoked = []
    consumer = make(on_assigned=restore, on_revoked=lambda partitions, lost: revoked.append(partitions))
    with pytest.raises(LookupError):
        until(lambda: consumer.poll(timeout=0.2))
    begun = time.monotonic()
    consumer.close()
    assert time.monotonic() - begun < 3
    assert revoked == []
