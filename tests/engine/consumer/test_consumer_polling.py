"""Polling, iterating, what is refused at construction, and errors that come while polling."""

from __future__ import annotations

import threading
import time

import pytest
from support.consuming import assigned, fill, take
from support.waiting import until

from rdknotify.consumer import Batch, Consumer
from rdknotify.errors import ConfigError, KafkaError


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
