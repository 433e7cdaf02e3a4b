"""A listener as a member of a share group: handled, wanted again, failed, poison, too slow."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from support.endpoints import BatchEndpoint, Endpoint, until
from support.reader import read_all

from rdknotify import ConfigError, Listener, NotificationResult, Notifier, Producer
from rdknotify.topics import dead_letter_topic

Listen = Callable[..., Listener]


@pytest.fixture
def listen(kafka, topic: str, group: str) -> Iterator[Listen]:
    """``listen(endpoint, **options)``: a started listener of the pool; closed at the end."""
    kafka.create_topic(f"{topic}.info", 1)
    started: list[Listener] = []

    def listen(endpoint: object, **options) -> Listener:
        started.append(Listener(kafka.url, [topic], [endpoint], pool=group, settle="share", **options))
        started[-1].start()
        return started[-1]

    yield listen
    for each in started:
        each.close()


def notify(kafka, topic: str, *event_types: str) -> None:
    with Notifier(kafka.url, "publisher", topics=[topic]) as notifier:
        notifier.notify_batch("info", [(event_type, {}) for event_type in event_types]).result(30)


def letters(kafka, topic: str, group: str) -> list[tuple[bytes | None, dict[str, bytes | None]]]:
    rows = read_all(kafka.bootstrap_servers, dead_letter_topic(f"{topic}.info", group))
    return [(value, dict(headers)) for _, _, _, value, headers in rows]


def test_each_notification_is_settled_by_what_its_endpoint_says(kafka, listen: Listen, topic: str, group: str) -> None:
    def answer(event_type: str) -> NotificationResult | None:
        if event_type == "bad":
            raise RuntimeError("no such instance")
        return NotificationResult.REQUEUE if event_type == "again" else None

    with Producer(kafka.url) as producer:
        producer.send(f"{topic}.info", b"no notification").result(10)
    notify(kafka, topic, *["good"] * 50, "again", "bad", *["good"] * 50)
    endpoint = Endpoint(answer)
    listener = listen(endpoint, max_deliveries=3)
    assert Counter(endpoint.seen(106)) == {"good": 100, "again": 3, "bad": 3}
    until(lambda: listener.counts.dead_lettered == 3)
    listener.close()
    counts = listener.counts
    assert (counts.received, counts.handled, counts.failed, counts.requeued, counts.poison) == (107, 100, 3, 4, 1)
    buried = letters(kafka, topic, group)
    assert sorted(headers["rdknotify.attempts"] for _, headers in buried) == [b"1", b"3", b"3"]
    assert [value for value, headers in buried if b"not a notification" in headers["rdknotify.reason"]] == [
        b"no notification"
    ]
    assert endpoint.calls.empty()


def test_batches_are_settled_together(kafka, listen: Listen, topic: str) -> None:
    notify(kafka, topic, *map(str, range(60)))
    refused: list[str] = []

    def answer(event_types: list[str]) -> None:
        if not refused:
            refused.extend(event_types)
            raise RuntimeError("no database")

    endpoint = BatchEndpoint(answer)
    listener = listen(endpoint, batch_size=20, batch_timeout=0.2)
    until(lambda: listener.counts.handled == 60)
    calls = [endpoint.calls.get_nowait() for _ in range(endpoint.calls.qsize())]
    assert max(map(len, calls)) <= 20
    seen = Counter(event_type for call in calls for event_type in call)
    assert seen == {str(i): 2 if str(i) in refused else 1 for i in range(60)}


def test_what_outlasts_the_lock_is_not_handed_out_here_any_more(kafka, listen: Listen, topic: str, caplog) -> None:
    names = {str(i) for i in range(8)}
    notify(kafka, topic, *names)
    by_slow: list[str] = []
    by_quick: list[str] = []

    def slowly(event_type: str) -> None:
        by_slow.append(event_type)
        time.sleep(1.2)

    listen(Endpoint(slowly), lock_duration=3)
    until(lambda: by_slow)
    listen(Endpoint(by_quick.append), lock_duration=3)
    until(lambda: {*by_slow, *by_quick} == names and "not settled since: they are released" in caplog.text)
    assert len(by_slow) < len(names)
    assert len({*by_slow} & {*by_quick}) <= 2  # what was in hand when the lock expired


def test_a_delay_is_refused(kafka, topic: str) -> None:
    with pytest.raises(ConfigError, match=r"retry_delay=1: with settle='share' .* at once"):
        Listener(kafka.url, [topic], [Endpoint()], settle="share", retry_delay=1)
