"""Every record of a bulk gets one outcome, and it is the truth: compared with what an independent reader finds."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from support.bulks import joined, outcomes, settle, stored_values
from support.load import Load
from support.reader import read_all

from rdknotify import BatchReport, Outcome, Producer, QueueFull
from rdknotify.testing import faults

BULK = 20_000


def numbers(begin: int, end: int, padding: bytes = b"") -> list[bytes]:
    return [b"%06d" % number + padding for number in range(begin, end)]


def test_one_oversized_record_of_21_fails_alone_and_is_named(kafka, topic, figure):
    kafka.create_topic(topic, 1)
    values = numbers(0, 21)
    values[7] = b"x" * 2_000_000
    with Producer(kafka.url) as producer:
        report = producer.send_batch(topic, values).result(30)
        (failure,) = report.failures
        assert (failure.index, failure.error.name, failure.outcome) == (7, "MSG_SIZE_TOO_LARGE", Outcome.NOT_PERSISTED)
        assert report.safe_to_resend == [7]
        values[7] = b"small enough now"
        settle(figure, "B", "a record too large for the client", producer, kafka, topic, values, report)


def test_leaders_killed_in_the_middle_of_a_bulk(kafka3, topic, figure):
    kafka3.create_topic(topic, 3, 3)
    values = numbers(0, 3 * BULK, b"." * 200)
    deliveries = []

    def send(begin: int, end: int) -> None:
        deliveries.extend(producer.send_batch(topic, values[at : at + 1000]) for at in range(begin, end, 1000))

    with Producer(kafka3.url, linger=0.02, delivery_timeout=60) as producer:
        send(0, BULK)
        kafka3.kill(kafka3.leader_of(topic, 0))
        send(BULK, 2 * BULK)
        leader_killed = joined([delivery.result(90) for delivery in deliveries])
        kafka3.heal()
        deliveries.clear()
        send(2 * BULK, int(2.5 * BULK))
        kafka3.kill()
        send(int(2.5 * BULK), 3 * BULK)
        kafka3.heal()
        all_killed = joined([delivery.result(90) for delivery in deliveries])
        for case, report in (("leader of one partition killed", leader_killed), ("all leaders killed", all_killed)):
            figure("B", f"{case}: failed, of {report.total:,}", len(report.failures), at_most=0)
        both = joined([leader_killed, all_killed])
        settle(figure, "B", "leaders killed, one and all", producer, kafka3, topic, values, both)


def test_broker_stopped_longer_than_the_delivery_timeout_and_a_full_queue(kafka, topic, figure):
    if not kafka.managed:
        pytest.skip("a running broker is not ours to stop")
    kafka.create_topic(topic, 2)
    kafka.create_topic(f"{topic}-full", 2)
    values = numbers(0, BULK)
    config = {"linger.ms": 1, "socket.timeout.ms": 2000, "request.timeout.ms": 2000}
    with (
        Producer(kafka.url, delivery_timeout=3.0, config=config) as producer,
        Producer(kafka.url, max_in_flight=5000) as narrow,
    ):
        before = [
            each.send_batch(where, values[:1000]) for each, where in ((producer, topic), (narrow, f"{topic}-full"))
        ]
        assert [delivery.result(30).delivered for delivery in before] == [1000, 1000]
        first = producer.send_batch(topic, values[1000:10_000])
        with faults.PauseNode(kafka, 1):
            rest = producer.send_batch(topic, values[10_000:])
            began = time.monotonic()
            with pytest.raises(QueueFull) as full:
                narrow.send_batch(f"{topic}-full", values[1000:], timeout=0.5)
            figure("B", "queue full: raised after", time.monotonic() - began, "s", at_most=2)
            reports = [before[0].result(), first.result(20), rest.result(20)]
            figure("B", "broker stopped: all outcomes known after", time.monotonic() - began, "s", at_most=15)
        after = producer.send_batch(topic, [b"after"]).result(30)
        assert after.delivered == 1, "the producer goes on when the broker is back"
        assert reports[2].failures, "one stopped for longer than the delivery timeout cannot have taken all"
        values.append(b"after")
        settle(figure, "B", "broker stopped", producer, kafka, topic, values, joined([*reports, after]))
        enqueued, report = full.value.enqueued, full.value.delivery.result(60)
        assert len(enqueued) == 5000
        assert {failure.error.name for failure in report.failures} == {"_QUEUE_FULL"}
        assert report.safe_to_resend == sorted(set(range(BULK - 1000)) - set(enqueued))
        whole = joined([before[1].result(), report])
        settle(figure, "B", "queue full", narrow, kafka, f"{topic}-full", values[:-1], whole)


def test_acknowledgements_that_never_come(kafka3_proxied, topic, figure):
    kafka = kafka3_proxied
    kafka.create_topic(topic, 3, 3)
    config = {"socket.timeout.ms": 2000, "reconnect.backoff.max.ms": 500}
    with Producer(kafka.proxied_url, delivery_timeout=3, config=config) as producer:
        producer.send(topic, b"first").result(30).raise_for_failures()
        with Load(producer, topic) as load:
            load.until_acknowledged(1000)
            with faults.DropReplies(kafka.proxies):
                time.sleep(4.5)  # longer than the delivery timeout
            load.until_acknowledged(len(load.sent))
        report = joined([BatchReport(1, 1), load.report()])
        figure("B", "acknowledgements dropped: failed", len(report.failures), at_least=1)
        settle(figure, "B", "acknowledgements dropped", producer, kafka, topic, [b"first", *load.sent], report)


def test_too_few_replicas_in_sync(kafka3, topic, figure):
    """First one follower is gone and a topic that wants three replicas refuses; then both, and none can be sure."""
    wants = {f"{topic}-3": "3", f"{topic}-2": "2"}
    for name, replicas in wants.items():
        kafka3.create_topic(name, 1, 3, {"min.insync.replicas": replicas})
    leaders = {name: kafka3.leader_of(name, 0) for name in wants}
    follower = min(set(kafka3.nodes) - set(leaders.values()))
    last = min(set(kafka3.nodes) - {leaders[f"{topic}-2"], follower})
    values = numbers(0, 4000)
    config = {"socket.timeout.ms": 3000, "request.timeout.ms": 2000}
    with Producer(kafka3.url, delivery_timeout=6, config=config) as producer:
        deliveries = {name: [producer.send_batch(name, values[:1000])] for name in wants}
        assert all(sent[0].result(30).delivered == 1000 for sent in deliveries.values())

        def send(begin: int, end: int) -> None:
            for at in range(begin, end, 100):
                for name, sent in deliveries.items():
                    sent.append(producer.send_batch(name, values[at : at + 100]))
                time.sleep(0.2)

        kafka3.kill(follower)
        send(1000, 2500)
        assert joined([delivery.result(30) for delivery in deliveries[f"{topic}-2"]]).failures == []
        kafka3.kill(last)
        send(2500, 4000)
        reports = {name: joined([delivery.result(30) for delivery in sent]) for name, sent in deliveries.items()}
        kafka3.heal()
        for name, replicas in wants.items():
            case = f"replicas too few for min.insync.replicas={replicas}"
            assert reports[name].failures
            settle(figure, "B", case, producer, kafka3, name, values, reports[name])


def test_topic_deleted_in_the_middle_of_a_bulk(kafka, topic, figure):
    """What was acknowledged before is gone with it; what comes later goes to the topic that the broker makes anew."""
    kafka.create_topic(topic, 2)
    config = {"topic.metadata.propagation.max.ms": 1000}
    with Producer(kafka.url, delivery_timeout=5, config=config) as producer, Producer(kafka.url) as admin:
        with Load(producer, topic) as load:
            load.until_acknowledged(2000)
            assert admin.delete_topics([topic]) == [None]
            deleted = len(load.sent)
            load.until_acknowledged(deleted + 4000)
        figure("B", "topic deleted: longest wait for an outcome", load.longest_wait, "s", at_most=15)
        report = load.report()
        stored = stored_values(kafka.bootstrap_servers, topic)
        wrong = [
            index
            for index, (value, outcome) in enumerate(zip(load.sent, outcomes(report), strict=True))
            if stored[value] > (outcome is not Outcome.NOT_PERSISTED)
            or (outcome is Outcome.DELIVERED and index >= deleted + 2000 and not stored[value])
        ]
        figure("B", "topic deleted: outcomes that the log belies", len(wrong), at_most=0)
        figure("B", "topic deleted: safe to send again", len(report.safe_to_resend))
        safe = [load.sent[index] for index in report.safe_to_resend]
        producer.deliver(topic, safe, timeout=60).raise_for_failures()
    stored = stored_values(kafka.bootstrap_servers, topic)
    figure("B", "topic deleted: lost, what is safe sent again", len(set(safe) - set(stored)), at_most=0)
    figure("B", "topic deleted: there twice", sum(stored.values()) - len(stored), at_most=0)


WORKER = """
import sys
from rdknotify import Producer
url, topic, begin = sys.argv[1], sys.argv[2], int(sys.argv[3])
producer = Producer(url)
sent = []
while True:
    sent.append((begin + 500, producer.send_batch(topic, [b"%08d" % number for number in range(begin, begin + 500)])))
    begin += 500
    if len(sent) == 8:
        end, delivery = sent.pop(0)
        delivery.result(30).raise_for_failures()
        print(end, flush=True)
"""


def test_a_process_killed_in_the_middle_of_a_bulk(kafka, topic, figure):
    kafka.create_topic(topic, 2)
    known = 0
    repeated = 0
    for _life in range(3):
        command = [sys.executable, "-c", WORKER, kafka.url, topic, str(known)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            for _line in range(30):
                known = int(worker.stdout.readline())
            worker.kill()
            known = int((worker.stdout.read().split() or [known])[-1])
        stored = stored_values(kafka.bootstrap_servers, topic)
        acknowledged = Counter(b"%08d" % number for number in range(known))
        figure("B", "process killed: acknowledged and lost", len(set(acknowledged) - set(stored)), at_most=0)
        twice = sum(stored.values()) - len(stored)
        assert twice == repeated, "only a successor that begins where acknowledgements ended repeats"
        repeated += len(set(stored) - set(acknowledged))
    figure("B", "process killed: on the log, not acknowledged, of 3 lives", repeated, at_most=3 * 8 * 500)


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
