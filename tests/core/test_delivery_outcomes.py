"""Outcomes: each record of a batch ends in exactly one, and nobody has to ask for them."""

from __future__ import annotations

import gc
import resource
import threading
import time

import pytest

from rdknotify import _rdknotify as core
from rdknotify.errors import (
    AuthenticationError,
    AuthorizationError,
    KafkaError,
    PartialDeliveryError,
    QueueFull,
    Timeout,
)
from rdknotify.outcomes import Outcome

PRODUCE = 0
INVALID_RECORD = 87
NOT_LEADER = 6
TOPIC_AUTHORIZATION_FAILED = 29
DISCONNECT = -195


def outcomes(report):
    return {failure.outcome for failure in report.failures}


def test_all_delivered(producer, topic):
    report = producer.send_batch(topic, [b"v"] * 1000).result(10)
    assert (report.total, report.delivered, report.failures) == (1000, 1000, [])
    report.raise_for_failures()


def test_a_permanent_refusal_is_not_persisted(mock, producer, read, topic):
    producer.send_batch(topic, [b"known"]).result(10)
    mock.push_request_errors(PRODUCE, [TOPIC_AUTHORIZATION_FAILED])
    report = producer.send_batch(topic, [b"refused"] * 100).result(10)
    assert report.delivered == 0
    assert report.safe_to_resend == list(range(100))
    assert {failure.error.name for failure in report.failures} == {"TOPIC_AUTHORIZATION_FAILED"}
    assert not report.failures[0].error.retriable
    assert [record.value for record in read(1)] == [b"known"]
    with pytest.raises(PartialDeliveryError, match="100 of 100"):
        report.raise_for_failures()


def test_what_was_sent_but_never_answered_is_possibly_persisted(mock, make_producer, topic):
    producer = make_producer(**{"message.timeout.ms": "800", "enable.idempotence": "false"})
    producer.send_batch(topic, [b"known"]).result(10)
    mock.set_broker_rtt(1, 3000)
    begun = time.monotonic()
    report = producer.send_batch(topic, [b"v"] * 10).result(10)
    assert time.monotonic() - begun < 3
    assert outcomes(report) == {Outcome.POSSIBLY_PERSISTED}
    assert report.safe_to_resend == []
    assert {failure.error.name for failure in report.failures} == {"_MSG_TIMED_OUT"}


def test_what_was_never_sent_times_out_as_not_persisted(mock, make_producer, topic):
    producer = make_producer(**{"message.timeout.ms": "500"})
    producer.send_batch(topic, [b"known"]).result(10)
    mock.set_broker_up(1, False)
    report = producer.send_batch(topic, [b"v"] * 10).result(10)
    assert outcomes(report) == {Outcome.NOT_PERSISTED}
    assert isinstance(report.failures[0].error, Timeout)


@pytest.mark.parametrize("faults", [[NOT_LEADER] * 3, [DISCONNECT], [NOT_LEADER, DISCONNECT, NOT_LEADER]])
def test_what_passes_is_tried_again_and_delivered_once(mock, producer, read, topic, faults):
    producer.send_batch(topic, [b"known"]).result(10)
    mock.push_request_errors(PRODUCE, faults)
    assert producer.send_batch(topic, [b"%d" % i for i in range(100)]).result(20).delivered == 100
    values = [record.value for record in read(101)]
    assert len(values) == len(set(values)) == 101


def test_only_the_records_of_the_refused_partition_fail(mock, producer, read, topic, figure):
    keys = [b"%d" % i for i in range(400)]
    producer.send_batch(topic, keys, keys=keys).result(10)
    on_partition_one = [i for i, key in enumerate(keys) if (core.murmur2(key) & 0x7FFFFFFF) % 4 == 1]
    mock.push_partition_errors(topic, 1, PRODUCE, [INVALID_RECORD])
    report = producer.send_batch(topic, keys, keys=keys).result(10)
    failed = [failure.index for failure in report.failures]
    figure("F5", "refused, of 400", len(failed))
    figure("F5", "others named, or not named", len(set(failed) ^ set(on_partition_one)), at_most=0)
    assert failed == on_partition_one
    assert outcomes(report) == {Outcome.NOT_PERSISTED}
    assert report.delivered == 400 - len(on_partition_one)
    assert len(read(800 - len(on_partition_one))) == 800 - len(on_partition_one)


def test_resending_what_failed_duplicates_none(mock, producer, read, topic):
    keys = [b"%d" % i for i in range(100)]
    producer.send_batch(topic, [b"known"]).result(10)
    mock.push_partition_errors(topic, 2, PRODUCE, [INVALID_RECORD])
    report = producer.send_batch(topic, keys, keys=keys).result(10)
    again = [keys[i] for i in report.safe_to_resend]
    assert 0 < len(again) < 100
    producer.send_batch(topic, again, keys=again).result(10).raise_for_failures()
    assert sorted(record.value for record in read(101)) == sorted([b"known", *keys])


def test_outcomes_of_one_batch_do_not_show_in_another(mock, producer, topic):
    producer.send_batch(topic, [b"known"]).result(10)
    mock.push_partition_errors(topic, 0, PRODUCE, [INVALID_RECORD])
    key_of_partition_0 = next(b"%d" % i for i in range(100) if (core.murmur2(b"%d" % i) & 0x7FFFFFFF) % 4 == 0)
    refused = producer.send_batch(topic, [b"a"] * 5, keys=[key_of_partition_0] * 5)
    assert refused.result(10).delivered == 0
    after = producer.send_batch(topic, [b"b"] * 5, keys=[key_of_partition_0] * 5)
    assert after.result(10).delivered == 5
    assert refused.result(0).delivered == 0


def test_an_unknown_topic_is_named_as_such(mock, make_producer):
    mock.set_topic_error("absent", 3)
    producer = make_producer(**{"topic.metadata.propagation.max.ms": "500"})
    report = producer.send_batch("absent", [b"v"] * 3).result(10)
    assert {failure.error.name for failure in report.failures} <= {"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC"}
    assert report.safe_to_resend == [0, 1, 2]


def test_asking_never_blocks_and_waiting_has_a_timeout(mock, make_producer, topic):
    producer = make_producer()
    mock.set_broker_up(1, False)
    delivery = producer.send_batch(topic, [b"v"] * 7)
    assert not delivery.done()
    assert delivery.poll() is None
    assert delivery.total == len(delivery) == 7
    begun = time.monotonic()
    assert not delivery.wait(0.2)
    with pytest.raises(Timeout, match="7 of 7"):
        delivery.result(0.2)
    assert 0.4 <= time.monotonic() - begun < 1
    mock.set_broker_up(1, True)
    assert delivery.wait(10)
    assert delivery.poll().delivered == delivery.result(0).delivered == 7


def test_several_threads_wait_for_one_delivery(mock, producer, topic):
    mock.set_broker_up(1, False)
    delivery = producer.send_batch(topic, [b"v"] * 10)
    reports = []
    threads = [threading.Thread(target=lambda: reports.append(delivery.result(10))) for _ in range(4)]
    for thread in threads:
        thread.start()
    mock.set_broker_up(1, True)
    for thread in threads:
        thread.join(10)
    assert [report.delivered for report in reports] == [10] * 4


def test_dropped_deliveries_leave_nothing_behind(producer, topic, until):
    for _ in range(100):
        producer.send_batch(topic, [b"v"] * 10)
        producer.send(topic, b"v")
    until(lambda: producer.in_flight == 0, "everything is delivered, though nobody asks")
    gc.collect()
    assert core.live_handles()["deliveries"] == 0


def test_a_delivery_outlives_its_producer(make_producer, topic):
    producer = make_producer()
    delivery = producer.send_batch(topic, [b"v"] * 10)
    delivery.result(10)
    producer.shut()
    del producer
    assert delivery.result(0).delivered == 10


def test_the_outcome_of_what_close_gave_up_is_known(mock, make_producer, topic):
    producer = make_producer()
    mock.set_broker_up(1, False)
    delivery = producer.send_batch(topic, [b"v"] * 10)
    producer.shut()
    assert outcomes(delivery.result(5)) == {Outcome.NOT_PERSISTED}


def test_purge_settles_everything_in_flight(mock, producer, topic):
    mock.set_broker_up(1, False)
    delivery = producer.send_batch(topic, [b"v"] * 10)
    producer.purge()
    report = delivery.result(5)
    assert report.safe_to_resend == list(range(10))
    assert {failure.error.name for failure in report.failures} == {"_PURGE_QUEUE"}
    assert producer.in_flight == 0


def test_flush_sends_without_lingering(make_producer, topic):
    producer = make_producer(**{"linger.ms": "60000", "message.timeout.ms": "120000"})
    producer.send_batch(topic, [b"known"])
    begun = time.monotonic()
    assert producer.flush(10) == 0
    assert time.monotonic() - begun < 5
    assert producer.in_flight == 0


def test_flush_counts_what_is_still_unknown(mock, producer, topic):
    mock.set_broker_up(1, False)
    producer.send_batch(topic, [b"v"] * 10)
    begun = time.monotonic()
    assert producer.flush(0.3) == 10
    assert time.monotonic() - begun < 0.8


def test_the_producer_does_not_stall_when_nobody_asks(make_producer, topic, until):
    producer = make_producer(**{"queue.buffering.max.messages": "500"})
    for _ in range(40):
        producer.send_batch(topic, [b"v"] * 250, timeout=10)
    until(lambda: producer.in_flight == 0, "10,000 records went through a queue of 500")


def test_memory_is_bounded_while_the_broker_is_away(mock, make_producer, topic):
    producer = make_producer(queue_timeout=0, **{"queue.buffering.max.messages": "2000"})
    mock.set_broker_up(1, False)

    def fill():
        for _ in range(50):
            with pytest.raises(QueueFull):
                producer.send_batch(topic, [b"x" * 200] * 2500)
        assert producer.in_flight <= 2000
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    first = fill()
    assert fill() - first < 8 * 1024  # KiB; each fill offers 25 MB


@pytest.mark.parametrize(
    ("code", "name", "kind", "retriable"),
    [
        (-185, "_TIMED_OUT", Timeout, True),
        (-169, "_AUTHENTICATION", AuthenticationError, False),
        (-181, "_SSL", AuthenticationError, False),
        (NOT_LEADER, "NOT_LEADER_FOR_PARTITION", KafkaError, True),
    ],
)
def test_error_codes_become_the_exception_a_caller_would_catch(code, name, kind, retriable):
    error = core.kafka_error(code, "because")
    assert type(error) is kind
    assert (error.code, error.name, error.reason, error.retriable, error.fatal) == (
        code,
        name,
        "because",
        retriable,
        False,
    )
    assert str(error) == f"because ({name})"


@pytest.mark.parametrize(
    ("code", "name", "remedy"),
    [
        (TOPIC_AUTHORIZATION_FAILED, "TOPIC_AUTHORIZATION_FAILED", "WRITE on the topic"),
        (30, "GROUP_AUTHORIZATION_FAILED", "READ on the consumer group"),
        (31, "CLUSTER_AUTHORIZATION_FAILED", "IDEMPOTENT_WRITE on the cluster"),
    ],
)
def test_a_missing_right_says_which(code, name, remedy):
    error = core.kafka_error(code, "because")
    assert type(error) is AuthorizationError
    assert error.reason.startswith("because: allow this user ") and remedy in error.reason
    assert (error.name, error.retriable) == (name, False)
