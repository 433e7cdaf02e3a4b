"""Every record of a bulk gets one outcome, and it is the truth: compared with what an independent reader finds."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from support.reader import read_all

from rdknotify import BatchReport, Outcome, Producer

BULK = 20_000


def check(report: BatchReport, sent: list[bytes], stored: Counter[bytes | None]) -> None:
    """The report agrees with the log, record by record."""
    outcomes = dict.fromkeys(range(report.total), Outcome.DELIVERED)
    outcomes.update({failure.index: failure.outcome for failure in report.failures})
    assert report.total == len(sent) == report.delivered + len(report.failures)
    for index, value in enumerate(sent):
        if outcomes[index] is Outcome.DELIVERED:
            assert stored[value] == 1, f"record {index} was reported delivered and is {stored[value]} times on the log"
        elif outcomes[index] is Outcome.NOT_PERSISTED:
            assert stored[value] == 0, f"record {index} was reported absent and is {stored[value]} times on the log"
        else:
            assert stored[value] <= 1


def stored_values(bootstrap: str, topic: str) -> Counter[bytes | None]:
    return Counter(value for _partition, _offset, _key, value, _headers in read_all(bootstrap, topic))


def test_one_oversized_record_of_21_fails_alone_and_is_named(kafka, topic):
    kafka.create_topic(topic, 1)
    values = [b"%d" % number for number in range(21)]
    values[7] = b"x" * 2_000_000
    with Producer(kafka.url) as producer:
        report = producer.send_batch(topic, values).result(30)
        assert report.delivered == 20
        (failure,) = report.failures
        assert (failure.index, failure.error.name, failure.outcome) == (7, "MSG_SIZE_TOO_LARGE", Outcome.NOT_PERSISTED)
        assert report.safe_to_resend == [7]
        again = producer.send_batch(topic, [b"small enough now" for _ in report.safe_to_resend]).result(30)
        assert again.delivered == 1
    stored = stored_values(kafka.bootstrap_servers, topic)
    assert stored == Counter([value for value in values if len(value) < 100] + [b"small enough now"])


def test_leader_killed_in_the_middle_of_a_bulk(kafka3, topic):
    kafka3.create_topic(topic, 3, 3)
    values = [b"%06d" % number + b"." * 200 for number in range(BULK)]
    deliveries = []
    with Producer(kafka3.url, config={"linger.ms": 20}) as producer:
        for start in range(0, BULK, 1000):
            if start == BULK // 2:
                kafka3.kill(kafka3.leader_of(topic, 0))
            deliveries.append(producer.send_batch(topic, values[start : start + 1000]))
        reports = [delivery.result(60) for delivery in deliveries]
        resent = []
        for number, report in enumerate(reports):
            indexes = [number * 1000 + index for index in report.safe_to_resend]
            resent.extend(indexes)
        if resent:
            producer.send_batch(topic, [values[index] for index in resent]).result(60).raise_for_failures()
    kafka3.heal()
    stored = stored_values(kafka3.bootstrap_servers, topic)
    for number, report in enumerate(reports):
        bulk = values[number * 1000 : (number + 1) * 1000]
        if not report.failures:
            check(report, bulk, stored)
    assert set(stored) == set(values), "a record is missing although what was safe to send again was"
    assert max(stored.values()) == 1, "a record is there twice"


def test_broker_stopped_longer_than_the_delivery_timeout(kafka, topic):
    if not kafka.managed:
        pytest.skip("a running broker is not ours to stop")
    kafka.create_topic(topic, 2)
    values = [b"%06d" % number for number in range(BULK)]
    config = {"linger.ms": 1, "socket.timeout.ms": 2000, "request.timeout.ms": 2000}
    with Producer(kafka.url, delivery_timeout=3.0, config=config) as producer:
        before = producer.send_batch(topic, values[:5000]).result(30)
        assert before.delivered == 5000
        first = producer.send_batch(topic, values[5000:10_000])
        kafka.pause()
        try:
            rest = producer.send_batch(topic, values[10_000:])
            started = time.monotonic()
            reports = [first.result(20), rest.result(20)]
            assert time.monotonic() - started < 15
        finally:
            kafka.resume()
        after = producer.send_batch(topic, [b"after"]).result(30)
        assert after.delivered == 1, "the producer goes on when the broker is back"
    assert reports[1].failures, "a broker that is stopped for longer than the delivery timeout cannot have taken all"
    stored = stored_values(kafka.bootstrap_servers, topic)
    check(reports[0], values[5000:10_000], stored)
    check(reports[1], values[10_000:], stored)


def test_many_threads_each_get_their_own_outcomes(kafka, topic):
    kafka.create_topic(topic, 4)
    reports: dict[int, BatchReport] = {}
    with Producer(kafka.url) as producer:

        def work(number: int) -> None:
            values = [b"%d-%d" % (number, index) for index in range(500)]
            values[number] = b"x" * 2_000_000
            reports[number] = producer.send_batch(topic, values).result(30)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert {number: [f.index for f in report.failures] for number, report in reports.items()} == {
        number: [number] for number in range(8)
    }
    assert len(read_all(kafka.bootstrap_servers, topic)) == 8 * 499
