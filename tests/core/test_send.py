"""Sending: what may be sent, that a batch is validated whole, and what happens when the local queue is full."""

from __future__ import annotations

import threading
import time

import pytest

from rdknotify import _rdknotify as core
from rdknotify.errors import ConfigError, KafkaError, QueueFull
from rdknotify.outcomes import Outcome

VALUES = [b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview"), "text \N{SNOWMAN}", b"", "", None]
READ = [b"bytes", b"bytearray", b"memoryview", "text \N{SNOWMAN}".encode(), b"", b"", None]


@pytest.mark.parametrize(("value", "expected"), list(zip(VALUES, READ, strict=True)))
def test_a_value_and_a_key_of_each_type_arrive(producer, read, topic, value, expected):
    producer.send(topic, value, key=value).result(10)
    (record,) = read(1)
    assert record.value == expected
    assert record.key == expected


def test_a_batch_mixes_types_and_keeps_their_order_within_a_partition(producer, read, topic):
    producer.send_batch(topic, VALUES, keys=["same"] * len(VALUES)).result(10)
    assert [record.value for record in read(len(VALUES))] == READ


def test_keys_go_with_their_values(producer, read, topic):
    report = producer.send_batch(topic, ["a", "b", "c"], keys=[b"1", None, memoryview(b"3")]).result(10)
    assert report.delivered == 3
    assert {(record.key, record.value) for record in read(3)} == {(b"1", b"a"), (None, b"b"), (b"3", b"c")}


@pytest.mark.parametrize(
    "headers",
    [
        {"a": b"1", "none": None, "text": "x"},
        [("a", b"1"), ("none", None), ("text", bytearray(b"x"))],
        (("a", memoryview(b"1")), ("none", None), ("text", "x")),
    ],
)
def test_headers_of_one_record(producer, read, topic, headers):
    producer.send(topic, b"v", headers=headers).result(10)
    assert read(1)[0].headers == [("a", b"1"), ("none", None), ("text", b"x")]


def test_a_header_name_may_be_repeated_and_keeps_its_place(producer, read, topic):
    producer.send(topic, b"v", headers=[("n", b"1"), ("m", b"2"), ("n", b"3")]).result(10)
    assert read(1)[0].headers == [("n", b"1"), ("m", b"2"), ("n", b"3")]


def test_a_mapping_of_headers_goes_to_every_record_of_a_batch(producer, read, topic):
    producer.send_batch(topic, [b"%d" % i for i in range(5)], headers={"trace": "x"}).result(10)
    assert [record.headers for record in read(5)] == [[("trace", b"x")]] * 5


def test_headers_of_each_record_of_a_batch(producer, read, topic):
    producer.send_batch(topic, [b"0", b"1", b"2"], headers=[{"n": b"0"}, None, [("n", b"2")]]).result(10)
    assert {record.value: record.headers for record in read(3)} == {b"0": [("n", b"0")], b"1": [], b"2": [("n", b"2")]}


def test_what_was_sent_is_a_copy(producer, read, topic):
    value = bytearray(b"before")
    delivery = producer.send_batch(topic, [value])
    value[:] = b"behind"
    delivery.result(10)
    assert read(1)[0].value == b"before"


def test_a_slice_of_a_memoryview_needs_no_copy_but_no_gaps(producer, read, topic):
    view = memoryview(b"0123456789")
    producer.send(topic, view[2:5]).result(10)
    assert read(1)[0].value == b"234"
    with pytest.raises(ValueError, match="gaps"):
        producer.send(topic, view[::2])


BAD = [
    ({"values": [b"a", b"b", 3]}, TypeError, r"values\[2\].*int"),
    ({"values": [b"a", b"b", memoryview(b"abcd")[::2]]}, ValueError, r"values\[2\]"),
    ({"values": [b"a", b"b"], "keys": [b"k", 1.5]}, TypeError, r"keys\[1\].*float"),
    ({"values": [b"a", b"b"], "keys": [b"k"]}, ValueError, "keys has 1 entries for 2"),
    ({"values": [b"a", b"b"], "headers": [None]}, ValueError, "headers has 1 entries for 2"),
    ({"values": [b"a", b"b"], "headers": [None, {1: b"x"}]}, TypeError, r"headers\[1\]"),
    ({"values": [b"a", b"b"], "headers": [None, {"n": object()}]}, TypeError, r"headers"),
    ({"values": [b"a", b"b"], "headers": {"n": 7}}, TypeError, "headers"),
    ({"values": [b"a", "\ud800"]}, UnicodeEncodeError, "surrogate"),
    ({"values": "text"}, TypeError, "values is one str"),
    ({"values": b"bytes"}, TypeError, "values is one bytes"),
    ({"values": [b"a"], "keys": "k"}, TypeError, "keys is one str"),
]


@pytest.mark.parametrize(("arguments", "error", "text"), BAD)
def test_a_bad_element_is_named_and_nothing_is_enqueued(producer, read, topic, arguments, error, text):
    with pytest.raises(error, match=text):
        producer.send_batch(topic, **arguments)
    assert producer.in_flight == 0
    producer.send(topic, b"after").result(10)
    assert [record.value for record in read(1)] == [b"after"]


@pytest.mark.parametrize(
    "arguments", [{"value": 3}, {"value": b"v", "key": 3}, {"value": b"v", "headers": {"n": 3}}, {"value": [b"v"]}]
)
def test_a_bad_argument_of_send_leaves_nothing_behind(producer, topic, arguments):
    with pytest.raises(TypeError):
        producer.send(topic, **arguments)
    assert producer.in_flight == 0
    assert core.live_handles()["deliveries"] == 0


@pytest.mark.parametrize("topic", [3, None, b"records"])
def test_a_topic_is_text(producer, topic):
    with pytest.raises(TypeError, match="topic"):
        producer.send(topic, b"v")


def test_a_subclass_refuses_topics_before_their_first_record(mock):
    class Strict(core.Producer):
        def check_topic(self, topic):
            raise ConfigError(f"no topic {topic}")

    producer = Strict({"bootstrap.servers": mock.bootstrap_servers})
    with pytest.raises(ConfigError, match="no topic records"):
        producer.send_batch("records", [b"v"])
    producer.shut()


def test_an_empty_batch_is_delivered_already(producer, topic):
    delivery = producer.send_batch(topic, [])
    assert delivery.done()
    assert delivery.result(0).total == len(delivery) == 0


def test_any_sequence_and_a_generator_will_do(producer, read, topic):
    producer.send_batch(topic, (value for value in (b"a", b"b")), keys=(b"1", b"2")).result(10)
    assert {record.value for record in read(2)} == {b"a", b"b"}


def test_an_oversized_record_fails_alone_and_is_named(producer, read, topic):
    values = [b"%d" % i for i in range(21)]
    values[13] = bytes(2_000_000)
    report = producer.send_batch(topic, values).result(10)
    assert report.delivered == 20
    assert [(failure.index, failure.error.name, failure.outcome) for failure in report.failures] == [
        (13, "MSG_SIZE_TOO_LARGE", Outcome.NOT_PERSISTED)
    ]
    assert len(read(20)) == 20


def test_send_raises_what_is_refused_at_once(producer, topic):
    with pytest.raises(KafkaError) as caught:
        producer.send(topic, bytes(2_000_000))
    assert caught.value.name == "MSG_SIZE_TOO_LARGE"
    assert producer.in_flight == 0


@pytest.mark.parametrize("headers", [None, {"h": b"1"}])
def test_a_full_queue_is_waited_for_then_tells_what_was_enqueued(mock, make_producer, read, topic, headers):
    producer = make_producer(**{"queue.buffering.max.messages": "10"})
    producer.send(topic, b"known").result(10)
    mock.set_broker_up(1, False)
    begun = time.monotonic()
    with pytest.raises(QueueFull) as caught:
        producer.send_batch(topic, [b"%d" % i for i in range(25)], headers=headers, timeout=0.4)
    assert 0.4 <= time.monotonic() - begun < 1.0
    error = caught.value
    assert isinstance(error, BufferError)
    assert error.enqueued == tuple(range(10))
    assert "10 of 25" in str(error)
    mock.set_broker_up(1, True)
    report = error.delivery.result(10)
    assert report.delivered == 10
    assert report.safe_to_resend == list(range(10, 25))
    assert {record.value for record in read(11)} == {b"known", *(b"%d" % i for i in range(10))}


def test_a_full_queue_of_keyed_records_names_indexes_in_the_callers_order(mock, make_producer, read, topic):
    producer = make_producer(**{"queue.buffering.max.messages": "7"})
    producer.send(topic, b"known").result(10)
    mock.set_broker_up(1, False)
    with pytest.raises(QueueFull) as caught:
        producer.send_batch(topic, [b"%d" % i for i in range(20)], keys=[f"k{i}" for i in range(20)], timeout=0.1)
    enqueued = caught.value.enqueued
    assert len(enqueued) == 7
    mock.set_broker_up(1, True)
    assert caught.value.delivery.result(10).delivered == 7
    assert {record.value for record in read(8)} == {b"known", *(b"%d" % i for i in enqueued)}


def test_send_waits_on_a_full_queue_up_to_the_clients_timeout(mock, make_producer, topic):
    producer = make_producer(queue_timeout=0.3, **{"queue.buffering.max.messages": "1"})
    mock.set_broker_up(1, False)
    delivery = producer.send(topic, b"first")
    begun = time.monotonic()
    with pytest.raises(QueueFull) as caught:
        producer.send(topic, b"second", headers={"h": b"1"})
    assert 0.3 <= time.monotonic() - begun < 0.9
    assert caught.value.enqueued == ()
    assert caught.value.delivery.result(0).safe_to_resend == [0]
    mock.set_broker_up(1, True)
    assert delivery.result(10).delivered == 1


def test_a_batch_larger_than_the_queue_goes_through_while_the_broker_answers(make_producer, topic):
    producer = make_producer(**{"queue.buffering.max.messages": "50", "linger.ms": "0"})
    report = producer.send_batch(topic, [b"v"] * 2000, timeout=20).result(10)
    assert report.delivered == 2000


def test_the_queue_is_bounded_in_bytes_too(mock, make_producer, topic):
    producer = make_producer(**{"queue.buffering.max.kbytes": "10"})
    mock.set_broker_up(1, False)
    with pytest.raises(QueueFull) as caught:
        producer.send_batch(topic, [bytes(1024)] * 100, timeout=0)
    assert 5 <= len(caught.value.enqueued) <= 15


def test_a_waiting_sender_goes_on_as_soon_as_there_is_room(mock, make_producer, topic):
    producer = make_producer(queue_timeout=10, **{"queue.buffering.max.messages": "1"})
    producer.send(topic, b"known").result(10)
    mock.set_broker_up(1, False)
    producer.send(topic, b"first")
    threading.Timer(0.3, mock.set_broker_up, (1, True)).start()
    assert producer.send(topic, b"second").result(10).delivered == 1


def test_a_batch_that_waits_for_an_answer_to_the_one_before_costs_no_cpu(producer, mock, topic):
    def send():
        return producer.send_batch(topic, [b"x"] * 100, keys=["same partition"] * 100)

    send().result(10)
    mock.set_broker_rtt(1, 1000)
    first = send()
    time.sleep(0.1)  # until it is in flight
    second = send()
    cpu = time.process_time()
    time.sleep(0.8)
    assert time.process_time() - cpu < 0.3
    assert not first.done()
    mock.set_broker_rtt(1, 0)
    assert first.wait(10)
    assert second.wait(10)
