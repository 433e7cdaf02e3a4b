"""The producer that users make: options, flush, close, context manager, what is said when it is forgotten."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from rdknotify.consumer import Consumer
from rdknotify.errors import ClosedError, ConfigError, KafkaError, QueueFull, Timeout
from rdknotify.outcomes import BatchReport
from rdknotify.producer import Producer
from rdknotify.url import TransportURL


def test_sending(mock_cluster):
    with Producer(mock_cluster.url) as producer:
        assert producer.send("t", b"v").result(10).delivered == 1
        report = producer.send_batch("t", ["a", "b"], keys=[b"1", None], headers={"h": "x"}).result(10)
        report.raise_for_failures()
    assert producer.closed


def test_a_transport_url_will_do(mock_cluster):
    with Producer(TransportURL.parse(mock_cluster.url)) as producer:
        producer.flush(5)


def test_options_reach_librdkafka(mock_cluster):
    producer = Producer(mock_cluster.url + "?max_in_flight=3", queue_timeout=0.1, config={"linger.ms": 1})
    mock_cluster.broker_down(1)
    with pytest.raises(QueueFull) as caught:
        producer.send_batch("t", [b"v"] * 5)
    assert len(caught.value.enqueued) == 3
    mock_cluster.broker_up(1)
    producer.close()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"no_such_option": 1}, "no_such_option"),
        ({"config": {"no.such.property": 1}}, "no.such.property"),
        ({"config": {"acks": "banana"}}, "acks"),
        ({"max_poll_records": 5}, "max_poll_records"),
    ],
)
def test_what_is_wrong_is_named(mock_cluster, arguments, text):
    with pytest.raises(ConfigError, match=text):
        Producer(mock_cluster.url, **arguments)


@pytest.mark.parametrize("topic", ["", "a b", "x" * 250, ".."])
def test_a_topic_that_kafka_forbids_is_refused(mock_cluster, topic):
    with Producer(mock_cluster.url) as producer, pytest.raises(ConfigError, match="topic"):
        producer.send_batch(topic, [b"v"])


def test_what_a_broker_refused_together_is_tried_apart_until_all_is_delivered(mock_cluster):
    mock_cluster.create_topic("t", 1)
    with Producer(mock_cluster.url, linger=0.05) as producer:
        values, keys = [b"%d" % number for number in range(100)], ["k"] * 100
        headers = [[("n", value)] for value in values]
        assert producer.deliver("t", values[:10], keys[:10], headers[:10]).delivered == 10
        mock_cluster.fail_next("Produce", "INVALID_RECORD")
        assert producer.deliver("t", values[10:], keys[10:], headers[10:]) == BatchReport(90, 90)
        mock_cluster.fail_next("Produce", "MSG_SIZE_TOO_LARGE")
        assert producer.deliver("t", ["alone"], headers={"for": "all"}) == BatchReport(1, 1)
    with Consumer(mock_cluster.url, ["t"], "reader", config={"fetch.wait.max.ms": 20}) as consumer:
        records = []
        while len(records) < 101:
            records += consumer.poll(200, 10.0)
    assert sorted(record.value for record in records) == sorted([*values, b"alone"])
    assert all(record.headers == ([("n", record.value)] if record.key else [("for", b"all")]) for record in records)


def test_what_is_refused_for_good_is_not_tried_again_by_deliver(mock_cluster):
    mock_cluster.create_topic("t", 1)
    with Producer(mock_cluster.url) as producer:
        mock_cluster.fail_next("Produce", "TOPIC_AUTHORIZATION_FAILED")
        report = producer.deliver("t", [b"v"] * 10)
        assert {failure.error.name for failure in report.failures} == {"TOPIC_AUTHORIZATION_FAILED"}
        assert producer.deliver("t", [b"v"] * 10).delivered in (0, 10), "it may be refused until metadata come again"


def test_deliver_tells_of_a_full_queue_and_is_bounded(mock_cluster):
    mock_cluster.create_topic("t", 1)
    with Producer(mock_cluster.url + "?max_in_flight=3", queue_timeout=0.1, delivery_timeout=2) as producer:
        assert producer.deliver("t", [b"v"]).delivered == 1
        mock_cluster.broker_down(1)
        begun = time.monotonic()
        report = producer.deliver("t", [b"v"] * 5)
        assert time.monotonic() - begun < 10
        assert [failure.error.name for failure in report.failures] == ["_MSG_TIMED_OUT"] * 3 + ["_QUEUE_FULL"] * 2
        with pytest.raises(Timeout, match="1 of 1"):
            producer.deliver("t", [b"v"], timeout=0.1)
        mock_cluster.broker_up(1)


def test_deliver_gives_up_trying_apart_at_its_timeout(mock_cluster, monkeypatch):
    mock_cluster.create_topic("t", 1)
    with Producer(mock_cluster.url, linger=0.05) as producer:
        assert producer.deliver("t", [b"v"]).delivered == 1
        mock_cluster.fail_next("Produce", "INVALID_RECORD")
        refused = producer.send_batch("t", [b"v"] * 4)
        refused.wait(10)
        mock_cluster.broker_down(1)
        monkeypatch.setattr(producer, "send_batch", lambda *_, **__: refused)
        begun = time.monotonic()
        report = producer.deliver("t", [b"v"] * 4, timeout=0.5)
        assert time.monotonic() - begun < 5
        assert report.safe_to_resend == [0, 1, 2, 3]
        assert {failure.error.name for failure in report.failures} == {"_PURGE_QUEUE", "_TIMED_OUT"}
        assert "could not be tried without them" in str(report.failures[-1].error)
        mock_cluster.broker_up(1)


def test_flush_raises_what_is_still_unknown(mock_cluster):
    with Producer(mock_cluster.url) as producer:
        mock_cluster.broker_down(1)
        producer.send_batch("t", [b"v"] * 12)
        begun = time.monotonic()
        with pytest.raises(Timeout, match="12 records"):
            producer.flush(0.2)
        assert time.monotonic() - begun < 0.7
        mock_cluster.broker_up(1)
        assert producer.flush(10) is None


def test_close_delivers_and_is_idempotent(mock_cluster):
    producer = Producer(mock_cluster.url)
    delivery = producer.send_batch("t", [b"v"] * 100)
    producer.close()
    producer.close()
    assert delivery.result(0).delivered == 100
    with pytest.raises(ClosedError):
        producer.send("t", b"v")
    with pytest.raises(ClosedError):
        producer.flush(0)


def test_close_is_bounded_and_says_what_was_given_up(mock_cluster):
    producer = Producer(mock_cluster.url)
    mock_cluster.broker_down(1)
    delivery = producer.send_batch("t", [b"v"] * 12)
    begun = time.monotonic()
    with pytest.raises(Timeout, match=r"12 records.*0\.3 s"):
        producer.close(0.3)
    assert time.monotonic() - begun < 1
    assert producer.closed
    assert delivery.result(5).safe_to_resend == list(range(12))


def test_the_flush_timeout_is_the_closes(mock_cluster):
    producer = Producer(mock_cluster.url, flush_timeout=0.2)
    mock_cluster.broker_down(1)
    producer.send("t", b"v")
    with pytest.raises(Timeout, match=r"0\.2 s"), producer:
        pass


def test_an_exception_of_the_block_is_not_hidden(mock_cluster, caplog):
    producer = Producer(mock_cluster.url, flush_timeout=0.2)
    mock_cluster.broker_down(1)

    def fail():
        with producer:
            producer.send("t", b"v")
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"), caplog.at_level(logging.ERROR, "rdknotify"):
        fail()
    assert "1 records were not delivered" in caplog.text


def test_two_threads_close_once(mock_cluster):
    producer = Producer(mock_cluster.url)
    producer.send_batch("t", [b"v"] * 1000)
    failures = []

    def close():
        try:
            producer.close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert failures == []


def test_a_forgotten_producer_is_warned_of(mock_cluster, caplog):
    producer = Producer(mock_cluster.url)
    name = producer.name
    mock_cluster.broker_down(1)
    producer.send_batch("t", [b"v"] * 5)
    mock_cluster.broker_up(1)
    with pytest.warns(ResourceWarning, match=f"{name} was not closed"):
        del producer
    assert "the outcome of 5 records is unknown" in caplog.text


def test_closing_after_a_fatal_error_is_quiet(mock_cluster):
    producer = Producer(mock_cluster.url)
    producer.send("t", b"known").result(10)
    mock_cluster.fail_next("Produce", "OUT_OF_ORDER_SEQUENCE_NUMBER")
    assert producer.send("t", b"v").result(10).delivered == 0
    with pytest.raises(KafkaError) as caught:
        producer.flush(1)
    assert caught.value.fatal
    producer.close()
    assert producer.closed
