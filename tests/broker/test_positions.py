"""Where reading begins and goes on, on real Kafka: replay by time, lag, late starts, both modes and protocols."""

from __future__ import annotations

import time
from datetime import datetime, timezone

import pytest
from support.waiting import until

from rdknotify.consumer import Consumer
from rdknotify.errors import AuthenticationError, Timeout
from rdknotify.producer import Producer


@pytest.fixture
def made(kafka, topic):
    kafka.create_topic(topic, 4)
    return topic


@pytest.fixture
def producer(kafka):
    with Producer(kafka.url) as producer:
        yield producer


@pytest.fixture(params=["classic", "consumer"])
def protocol(request):
    return request.param


def fill(producer, topic, first, count):
    numbers = [b"%d" % i for i in range(first, first + count)]
    producer.send_batch(topic, numbers, keys=numbers).result(20).raise_for_failures()


def take(consumer, count, commit=False):
    numbers = []

    def enough():
        batch = consumer.poll(timeout=0.2)
        numbers.extend(map(int, batch.values()))
        if commit:
            batch.commit()
        return len(numbers) >= count

    until(enough, f"{count} records came", 30)
    return sorted(numbers)


@pytest.mark.parametrize("kind", ["seconds", "datetime"])
def test_replay_from_a_timestamp(kafka, made, group, producer, kind):
    fill(producer, made, 0, 100)
    time.sleep(0.01)
    moment = time.time()
    fill(producer, made, 100, 100)
    with Consumer(kafka.url, [made], group) as consumer:
        assert take(consumer, 200) == list(range(200))
        consumer.seek_to_time(moment if kind == "seconds" else datetime.fromtimestamp(moment, timezone.utc))
        assert take(consumer, 100) == list(range(100, 200))
        consumer.seek_to_time(0)
        assert take(consumer, 200) == list(range(200))


def test_replay_from_the_future_begins_with_the_next_record(kafka, made, group, producer):
    fill(producer, made, 0, 100)
    with Consumer(kafka.url, [made], group) as consumer:
        take(consumer, 100)
        consumer.seek_to_time(time.time() + 3600)
        fill(producer, made, 100, 10)
        assert take(consumer, 10) == list(range(100, 110))


def test_lag_follows_what_is_polled(kafka, made, group, producer, protocol):
    fill(producer, made, 0, 100)
    with Consumer(kafka.url, [made], group, group_protocol=protocol, max_poll_records=10) as consumer:
        taken = len(until(lambda: consumer.poll(timeout=0.2), "a batch came", 30))
        until(lambda: len(consumer.assignment()) == 4)
        assert sum(consumer.lag().values()) == 100 - taken
        take(consumer, 100 - taken)
        assert set(consumer.lag().values()) == {0}


def test_a_successor_goes_on_after_the_last_commit(kafka, made, group, producer, protocol):
    fill(producer, made, 0, 100)
    with Consumer(kafka.url, [made], group, group_protocol=protocol) as consumer:
        assert take(consumer, 100, commit=True) == list(range(100))
    fill(producer, made, 100, 10)
    with Consumer(kafka.url, [made], group, group_protocol=protocol, commit="before") as consumer:
        assert take(consumer, 10) == list(range(100, 110))
    fill(producer, made, 110, 10)
    with Consumer(kafka.url, [made], group, group_protocol=protocol) as consumer:
        assert take(consumer, 10) == list(range(110, 120))


def test_a_late_start_skips_what_was_there_but_nothing_after(kafka, made, group, producer, protocol):
    fill(producer, made, 0, 100)
    with Consumer(kafka.url, [made], group, start="latest", group_protocol=protocol) as consumer:
        until(lambda: not consumer.poll(timeout=0.1) and len(consumer.assignment()) == 4, "all is assigned", 30)
        assert sum(consumer.committed().values()) == 100
    fill(producer, made, 100, 10)
    with Consumer(kafka.url, [made], group, start="latest", group_protocol=protocol) as consumer:
        assert take(consumer, 10) == list(range(100, 110))


def test_a_late_start_takes_a_topic_made_later_from_its_beginning(kafka, topic, group, producer, protocol):
    with Consumer(kafka.url, [topic], group, start="latest", group_protocol=protocol) as consumer:
        assert not consumer.poll(timeout=0.5)
        kafka.create_topic(topic, 4)
        fill(producer, topic, 0, 10)
        assert take(consumer, 10) == list(range(10))


def test_leaving_hands_over_at_once(kafka, made, group, producer, protocol):
    with Consumer(kafka.url, [made], group, group_protocol=protocol) as first:
        until(lambda: not first.poll(timeout=0.1) and len(first.assignment()) == 4, "all is assigned", 30)
    begun = time.monotonic()
    with Consumer(kafka.url, [made], group, group_protocol=protocol) as second:
        until(lambda: not second.poll(timeout=0.1) and len(second.assignment()) == 4, "all is assigned", 30)
    assert time.monotonic() - begun < 8  # far below the session timeout of 45 s


def test_tls_and_sasl_against_a_plain_listener_are_told_in_time(kafka):
    begun = time.monotonic()
    address = kafka.bootstrap_servers.split(",")[0]
    with pytest.raises((AuthenticationError, Timeout), match="security_protocol"):
        Producer(f"kafka://user:secret@{address}", connect_timeout=3, sasl_mechanism="SCRAM-SHA-256")
    with pytest.raises((AuthenticationError, Timeout), match="security_protocol"):
        Producer(f"kafka://{address}", connect_timeout=3, security_protocol="SSL")
    assert time.monotonic() - begun < 8
