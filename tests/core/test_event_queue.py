"""Logs, errors and statistics arrive as events, bounded, without anybody polling; fatal errors latch."""

from __future__ import annotations

import json
import threading
import time

import pytest

from rdknotify import _rdknotify as core
from rdknotify.errors import KafkaError

PRODUCE = 0
HEARTBEAT = 12
OUT_OF_ORDER_SEQUENCE_NUMBER = 45
FENCED_INSTANCE_ID = 82


def taken(client, until, wanted, what):
    seen = []

    def take():
        seen.extend(client.take_events())
        return [event for event in seen if wanted(event)]

    return until(take, what)


def test_an_unreachable_broker_is_an_error_and_a_log(make_producer, until):
    producer = make_producer(**{"bootstrap.servers": "127.0.0.1:1"})
    errors = taken(producer, until, lambda event: event[0] == "error", "an error")
    kind, code, name, reason = errors[0]
    assert (kind, code, name) == ("error", -195, "_TRANSPORT")
    assert "refused" in reason
    taken(producer, until, lambda event: event[2] == "_ALL_BROKERS_DOWN", "the news that all are down")


def test_logs_have_a_level_a_facility_and_a_text(make_producer, until):
    producer = make_producer(debug="broker")
    logs = taken(producer, until, lambda event: event[0] == "log", "a log line")
    _, level, facility, text = logs[0]
    assert 0 <= level <= 7
    assert facility.isupper()
    assert text


def test_statistics_are_a_document(make_producer, until):
    producer = make_producer(**{"statistics.interval.ms": "100"})
    (_, number, nothing, text), *_ = taken(producer, until, lambda event: event[0] == "stats", "statistics")
    assert (number, nothing) == (0, "")
    assert json.loads(text)["type"] == "producer"


def test_taking_is_once_and_never_blocks(make_producer, until):
    producer = make_producer(**{"statistics.interval.ms": "50"})
    until(producer.take_events, "the first event")
    producer.shut()
    producer.take_events()
    begun = time.monotonic()
    assert producer.take_events() == []
    assert time.monotonic() - begun < 0.1


def test_untaken_events_are_bounded_and_the_drop_is_counted(make_producer, until):
    producer = make_producer(debug="all")
    producer.send_batch("records", [b"v"] * 10).result(10)
    for _ in range(200):
        producer.metadata(timeout=5)
    events = producer.take_events()
    assert len(events) <= 1001
    kind, dropped, *_ = events[-1]
    assert kind == "dropped"
    assert dropped > 0


def test_waiting_for_events(make_producer, until):
    until(lambda: not core.wait_events(0), "nothing is left of earlier tests")
    begun = time.monotonic()
    assert not core.wait_events(0.2)
    assert 0.2 <= time.monotonic() - begun < 0.5
    producer = make_producer(**{"statistics.interval.ms": "300"})
    begun = time.monotonic()
    assert core.wait_events(5)
    assert time.monotonic() - begun < 2
    producer.shut()
    until(lambda: not (producer.take_events() or core.wait_events(0)), "taking leaves nothing to wait for")


def test_waiting_leaves_the_gil(make_producer):
    counted = 0
    thread = threading.Thread(target=core.wait_events, args=(0.5,))
    thread.start()
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        counted += 1
    assert counted > 10_000
    thread.join()


def test_events_of_a_dropped_client_do_not_keep_waiters_awake(make_producer, until):
    producer = make_producer(**{"bootstrap.servers": "127.0.0.1:1"})
    assert core.wait_events(5)
    producer.shut()
    make_producer.made.clear()
    del producer
    until(lambda: not core.wait_events(0), "there is nothing to take any more")


def test_a_fatal_error_of_a_producer_latches(mock, make_producer, topic, until):
    producer = make_producer()
    producer.send_batch(topic, [b"known"]).result(10)
    mock.push_request_errors(PRODUCE, [OUT_OF_ORDER_SEQUENCE_NUMBER])
    report = producer.send_batch(topic, [b"v"] * 5).result(10)
    assert report.delivered == 0
    until(lambda: raises_fatal(lambda: producer.send(topic, b"w")), "the next call raises")
    assert raises_fatal(lambda: producer.send_batch(topic, [b"w"]))
    producer.shut()
    assert producer.closed


def test_a_fatal_error_of_a_consumer_latches(mock, join, until):
    member = join(**{"group.instance.id": "static-1"})
    member.assigned(4)
    mock.push_request_errors(HEARTBEAT, [FENCED_INSTANCE_ID])
    until(lambda: raises_fatal(lambda: member.step(0.1)), "the next call raises")
    assert raises_fatal(lambda: member.client.committed([("records", 0)], 1))


def raises_fatal(call):
    try:
        call()
    except KafkaError as error:
        return error.fatal and not error.retriable
    return False


@pytest.mark.parametrize("code", [-1, 1, 3, 87])
def test_every_error_has_a_name_and_words(code):
    error = core.kafka_error(code)
    assert error.name
    assert error.reason
