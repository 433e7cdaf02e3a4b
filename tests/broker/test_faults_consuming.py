"""Consumers and listeners that are killed, too slow, or handed what they cannot handle: nothing is lost."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any

import psutil
import pytest
from support.consuming import committed
from support.endpoints import SOON, Endpoint, until
from support.figures import Figures
from support.reader import read_all

from rdknotify import Consumer, Listener, Notifier, Producer
from rdknotify.errors import CommitFailed
from rdknotify.testing.checker import Kind
from rdknotify.topics import dead_letter_topic, notification_topic
from reliability.crew import Crew

MOST = 100
INTERVAL = 2.0
"""Seconds of ``max.poll.interval.ms``, which is at least as long as the session."""
IMPATIENT = {
    "classic": {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300, "max.poll.interval.ms": 2000},
    "consumer": {"max.poll.interval.ms": 2000},
}
SESSIONS = {"classic": 1.5, "consumer": 6.0}
"""Seconds; the newer protocol's as the kit's brokers say. There librdkafka 2.15.1 lets the session expire."""


def test_processes_killed_in_mid_batch(kafka, crew: Crew, group: str, figure: Figures) -> None:
    kills = 2
    options = {"config": {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300}}
    sender = crew.add("send", rate=3000, bulks=(50, 50))
    for number in range(kills):
        crew.add("consume", group, most=MOST, die_at=number + 2, options=options).ended(-9)
    last = crew.begun(crew.add("consume", group, most=MOST, options=options))
    sender.leave()
    crew.wait_until_committed([group])
    last.leave()
    report = crew.judge()
    figure("F11", "records sent", report.sent)
    figure("F11", "processes killed between a batch and its commit", kills)
    figure("F11", "lost, or never handed out", report.count(Kind.LOST) + report.count(Kind.UNSEEN), at_most=0)
    figure("F11", "handed out twice", report.readings[group].repeated, at_least=1, at_most=kills * MOST)
    assert not report.anomalies, report


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_consumer_slower_than_its_poll_interval(
    kafka, topic: str, group: str, figure: Figures, caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    kafka.create_topic(topic, 1)
    numbers = [b"%d" % number for number in range(300)]
    with Producer(kafka.url) as producer:
        producer.send_batch(topic, numbers).result(SOON).raise_for_failures()
    options: dict[str, Any] = {"group_protocol": protocol, "config": IMPATIENT[protocol], "max_poll_records": MOST}
    others: Counter[bytes | None] = Counter()
    with Consumer(kafka.url, [topic], group, **options) as slow:
        batches = []
        until(lambda: batches.append(slow.poll()) or batches[-1])
        begun = time.monotonic()
        with Consumer(kafka.url, [topic], group, **options) as other:

            def taken() -> bool:
                batch = other.poll(timeout=0.1)
                others.update(batch.values())
                batch.commit()
                return len(others) == len(numbers)

            until(taken)
            moved = time.monotonic() - begun
            with pytest.raises(CommitFailed):
                batches[-1].commit()
            assert set(other.committed().values()) == {len(numbers)}, "the slow one spoiled its successor's offset"
        until(lambda: not slow.poll(timeout=0.1) and slow.assignment())
    told = [record for record in caplog.records if "MAX_POLL_EXCEEDED" in record.message]
    handed = others + Counter(batches[-1].values())
    figure(
        "F12", f"{protocol}: its partition was another's after", moved, "s", at_most=INTERVAL + SESSIONS[protocol] + 2
    )
    figure("F12", f"{protocol}: lost, or never handed out", len(set(numbers) - handed.keys()), at_most=0)
    figure("F12", f"{protocol}: handed out twice, of {MOST} in hand", sum(handed.values()) - len(numbers), at_most=MOST)
    figure("F12", f"{protocol}: log lines that say why", len(told), at_least=1, at_most=1)
    assert "max_poll_records" in told[0].message, "the remedy is told"


def test_a_slow_consumer_holds_little_of_a_long_backlog(kafka, crew: Crew, group: str, figure: Figures) -> None:
    options = {"config": {"queued.max.messages.kbytes": 4096}}
    slow = crew.add("consume", group, most=1, pause=0.1, options=options)
    with Notifier(kafka.url, "n", topics=[crew.topic.removesuffix(".info")]) as notifier:
        notifier.info({}, "load", {"n": 0})
        notifier.flush(SOON)
        crew.begun(slow)
        process = psutil.Process(slow.pid)
        before = process.memory_info().rss
        for _ in range(100):
            notifier.notify_batch("info", [("load", {"n": 0, "pad": "." * 1000})] * 1000)
        notifier.flush(SOON)
    until(lambda: crew.lag(group) > 90_000)
    peak = 0
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.05)
    figure("F12", "memory gained by 100 MB of backlog, 4 MB of them wanted", (peak - before) / 1e6, "MB", at_most=40)


def test_a_listener_whose_endpoints_are_slow_keeps_its_partitions(
    kafka, topic: str, group: str, figure: Figures, caplog: pytest.LogCaptureFixture
) -> None:
    count = 40

    def work(event_type: str) -> None:
        time.sleep(2 * INTERVAL / count)

    slow, other = Endpoint(work), Endpoint(work)
    options: dict[str, Any] = {"pool": group, "settle": "after", "config": IMPATIENT["classic"]}
    kafka.create_topic(notification_topic(topic, "info"), 1)
    with Notifier(kafka.url, "n", topics=[topic]) as notifier:
        notifier.notify_batch("info", [(str(number), {}) for number in range(count)]).result(SOON)

    def handed() -> Counter[str]:
        return Counter(call[2] for endpoint in (slow, other) for call in endpoint.calls.queue)

    with Listener(kafka.url, [topic], [slow], **options):
        until(handed)
        with Listener(kafka.url, [topic], [other], **options):
            until(lambda: len(handed()) == count)
    exceeded = [record for record in caplog.records if "MAX_POLL_EXCEEDED" in record.message]
    figure("F12", "listener, a poll's records take twice the interval: lost", count - len(handed()), at_most=0)
    figure(
        "F12",
        "listener, a poll's records take twice the interval: handed out twice",
        handed().total() - count,
        at_most=0,
    )
    figure("F12", "listener, a poll's records take twice the interval: put out of the group", len(exceeded), at_most=0)


def test_a_listener_with_one_endless_call_is_told_and_loses_nothing(
    kafka, topic: str, group: str, figure: Figures, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[float] = []

    def work(event_type: str) -> None:
        calls.append(time.monotonic())
        if len(calls) == 1:
            time.sleep(2 * INTERVAL)

    endpoint = Endpoint(work)
    kafka.create_topic(notification_topic(topic, "info"), 1)
    with Notifier(kafka.url, "n", topics=[topic]) as notifier:
        notifier.notify_batch("info", [(str(number), {}) for number in range(10)]).result(SOON)
    options: dict[str, Any] = {"pool": group, "settle": "after", "config": IMPATIENT["classic"]}
    with Listener(kafka.url, [topic], [endpoint], **options):
        until(lambda: committed(kafka.url, group, notification_topic(topic, "info")) == 10)
        until(lambda: any("MAX_POLL_EXCEEDED" in record.message for record in caplog.records))
    handed = Counter(call[2] for call in endpoint.calls.queue)
    what = "listener, one call takes twice the interval"
    figure("F12", f"{what}: lost", 10 - len(handed), at_most=0)
    figure(
        "F12",
        "listener, one call takes twice the interval: handed out twice, of 10 in hand",
        sum(handed.values()) - 10,
        at_most=10,
    )
    assert all(record.levelno >= logging.WARNING for record in caplog.records if "MAX_POLL" in record.message)


def test_a_notification_whose_handler_always_raises(kafka, topic: str, group: str, figure: Figures) -> None:
    tries, count = 3, 200

    def fail(event_type: str) -> None:
        if event_type == "bad":
            raise RuntimeError("no such instance")

    endpoint = Endpoint(fail)
    options: dict[str, Any] = {"pool": group, "settle": "after", "max_deliveries": tries, "retry_delay": 0.5}
    with Listener(kafka.url, [topic], [endpoint], **options) as listener:
        with Notifier(kafka.url, "n", topics=[topic]) as notifier:
            events = [("bad" if number == count // 2 else str(number), {}) for number in range(count)]
            notifier.notify_batch("info", events).result(SOON).raise_for_failures()
        until(lambda: listener.counts.dead_lettered)
    order = endpoint.seen(endpoint.calls.qsize())
    handed = Counter(order)
    after_last_try = len(order) - 1 - max(place for place, name in enumerate(order) if name == "bad")
    letters = read_all(kafka.bootstrap_servers, dead_letter_topic(notification_topic(topic, "info"), group))
    figure(
        "F13", f"listener: copies in the dead letter topic after {tries} failures", len(letters), at_least=1, at_most=1
    )
    figure("F13", "listener: times it was handed out", handed.pop("bad"), at_least=tries, at_most=tries)
    figure(
        "F13", "listener: neighbours not handed out exactly once", count - 1 - Counter(handed.values())[1], at_most=0
    )
    figure("F13", "listener: neighbours that had to wait for its last try", after_last_try, at_most=0)
