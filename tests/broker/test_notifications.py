"""Notifications through real Kafka: first ones, virtual hosts, pools, crashes, requeue."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import listening
from support.endpoints import SOON, Endpoint, until
from support.reader import read_all

from rdknotify.dispatch import NotificationResult
from rdknotify.envelope import decode
from rdknotify.errors import KafkaError
from rdknotify.listener import Listener
from rdknotify.notifier import Notifier
from rdknotify.provenance import ATTEMPTS, OFFSET, TOPIC
from rdknotify.topics import dead_letter_topic, retry_topic

QUICK = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
"""A member that was killed is missed after 6 seconds, the least that brokers allow, not 45."""

Worker = Callable[..., "subprocess.Popen[bytes]"]


def numbered(count: int) -> list[tuple[str, Any]]:
    return [(str(number), {"n": number}) for number in range(count)]


def send(url: str, topic: str, count: int) -> None:
    with Notifier(url, "n", topics=[topic]) as notifier:
        notifier.notify_batch("info", numbered(count)).result(SOON).raise_for_failures()


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    path = tmp_path / "seen"
    path.touch()
    return path


@pytest.fixture
def worker(kafka, topic: str, group: str, seen: Path) -> Iterator[Worker]:
    """Start a listener in a process of its own; see ``support/listening.py``."""
    started: list[subprocess.Popen[bytes]] = []

    def start(settle: str, die_at: int = 0) -> subprocess.Popen[bytes]:
        options = {"pool": group, "settle": settle, "max_poll_records": 20, "config": QUICK}
        arguments = [kafka.url, topic, str(seen), json.dumps(options), str(die_at)]
        started.append(subprocess.Popen([sys.executable, listening.__file__, *arguments]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def ended(process: subprocess.Popen[bytes]) -> int:
    return process.wait(timeout=2 * SOON)


def lines(seen: Path) -> list[str]:
    return seen.read_text().splitlines()


# -- addresses --------------------------------------------------------------------------------------


def test_the_first_notification_on_a_new_topic_reaches_a_listener_started_before_it(kafka, topic, group):
    endpoint = Endpoint()
    with (
        Listener(kafka.url, [f"{topic}-old", topic], [endpoint], pool=group),
        Notifier(kafka.url, "n", topics=[f"{topic}-old"]) as to_old,
        Notifier(kafka.url, "n", topics=[topic]) as to_new,
    ):
        to_old.info({}, "it is at work", {})
        assert endpoint.seen(1) == ["it is at work"]
        to_new.info({}, "the very first", {})
        assert endpoint.seen(1) == ["the very first"]


def test_virtual_hosts_isolate_sender_and_listener(kafka, topic, group):
    endpoints = {vhost: Endpoint() for vhost in ("", "/red", "/blue")}
    for vhost in endpoints:
        with Notifier(kafka.url + vhost, "n", topics=[topic]) as notifier:
            notifier.notify_batch("info", [(vhost, {})] * 10).result(SOON).raise_for_failures()
    for vhost, endpoint in endpoints.items():
        with Listener(kafka.url + vhost, [topic], [endpoint], pool=group):
            assert endpoint.seen(10) == [vhost] * 10
        assert endpoint.calls.empty()


def test_pools_each_get_everything_and_members_of_one_share_it(kafka, topic, group):
    kafka.create_topic(f"{topic}.info", 4)
    members, alone = [Endpoint(), Endpoint()], Endpoint()
    sent: list[str] = []
    with (
        Listener(kafka.url, [topic], [members[0]], pool=f"{group}-shared") as first,
        Listener(kafka.url, [topic], [members[1]], pool=f"{group}-shared") as second,
        Listener(kafka.url, [topic], [alone], pool=f"{group}-alone") as other,
        Notifier(kafka.url, "n", topics=[topic]) as notifier,
    ):
        deadline = time.monotonic() + SOON
        while not (first.counts.handled and second.counts.handled) or len(sent) < 200:
            assert time.monotonic() < deadline, "one member got nothing"
            sent.append(str(len(sent)))
            notifier.info({}, sent[-1], {})
            time.sleep(0.01)
        until(lambda: first.counts.handled + second.counts.handled >= len(sent))
        until(lambda: other.counts.handled >= len(sent))
    shared = Counter(call[2] for member in members for call in member.calls.queue)
    assert shared == Counter(sent), "each notification is for exactly one member"
    assert Counter(call[2] for call in alone.calls.queue) == Counter(sent)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_both_group_protocols_serve_a_listener(kafka, topic, group, protocol):
    endpoint = Endpoint()
    with Listener(kafka.url, [topic], [endpoint], pool=group, settle="after", group_protocol=protocol):
        send(kafka.url, topic, 50)
        assert Counter(endpoint.seen(50)) == Counter(name for name, _ in numbered(50))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:9092"])
@pytest.mark.parametrize(
    "connect",
    [
        lambda url: Notifier(url, "n"),
        lambda url: Listener(url, ["notifications"], [Endpoint()], pool="p").run(),
        lambda url: Listener(url, ["notifications"], [Endpoint()], pool="p", settle="after").run(),
    ],
    ids=["notifier", "listener", "listener-after"],
)
def test_a_wrong_address_is_a_clear_error_within_10_seconds(connect, address):
    begun = time.monotonic()
    with pytest.raises(KafkaError) as caught:
        connect(f"kafka://{address}")
    assert time.monotonic() - begun < 10
    assert address in str(caught.value) and "check" in str(caught.value)


# -- crashes ----------------------------------------------------------------------------------------


def test_before_nothing_is_seen_twice_although_killed_in_the_handler(kafka, topic, seen, worker):
    send(kafka.url, topic, 200)
    assert [ended(worker("before", die_at)) for die_at in (5, 12)] == [-signal.SIGKILL] * 2
    last = worker("before")
    with Notifier(kafka.url, "n", topics=[topic]) as notifier:
        notifier.info({}, "last", {})
    until(lambda: "last" in lines(seen))
    last.terminate()
    assert ended(last) == 0
    counted = Counter(lines(seen))
    assert max(counted.values()) == 1
    # What each of the two had in hand is lost: up to max_poll_records, which is the promise.
    assert 201 - 2 * 20 < len(counted) < 201


def test_after_nothing_is_lost_although_killed_in_the_handler(kafka, topic, seen, worker):
    send(kafka.url, topic, 200)
    assert [ended(worker("after", die_at)) for die_at in (5, 32)] == [-signal.SIGKILL] * 2
    last = worker("after")
    until(lambda: len(set(lines(seen))) == 200)
    last.terminate()
    assert ended(last) == 0
    counted = Counter(lines(seen))
    assert set(counted) == {name for name, _ in numbered(200)}
    assert sum(counted.values()) - 200 <= 2 * 20, "only what was in hand is seen again"


def test_a_member_that_is_told_to_end_leaves_its_group_at_once(kafka, topic, seen, worker):
    kafka.create_topic(f"{topic}.info", 1)
    first = worker("before")
    send(kafka.url, topic, 1)
    until(lambda: lines(seen))
    first.terminate()
    assert ended(first) == 0
    begun = time.monotonic()
    worker("before")
    with Notifier(kafka.url, "n", topics=[topic]) as notifier:
        notifier.info({}, "for the next", {})
    until(lambda: "for the next" in lines(seen))
    assert time.monotonic() - begun < 5.0, "its session had to expire"


# -- requeue ----------------------------------------------------------------------------------------


def wanted_again(event_type: str) -> NotificationResult | None:
    return NotificationResult.REQUEUE if event_type == "again" else None


def test_requeue_goes_by_the_retry_topic_to_the_dead_letter_topic(kafka, topic, group):
    endpoint = Endpoint(wanted_again)
    options: dict[str, Any] = {"settle": "after", "max_deliveries": 3, "retry_delay": 1.0}
    with Listener(kafka.url, [topic], [endpoint], pool=group, **options) as listener:
        with Notifier(kafka.url, "n", topics=[topic]) as notifier:
            message_id = notifier.info({"user": "kim"}, "again", {"keep": "this"})
            until(lambda: listener.counts.requeued == 1)
            notifier.info({}, "neighbour", {})
        assert endpoint.seen(4) == ["again", "neighbour", "again", "again"]
        until(lambda: listener.counts.dead_lettered == 1)
    source = f"{topic}.info"
    retried = read_all(kafka.bootstrap_servers, retry_topic(source, group))
    assert sorted(dict(headers)[ATTEMPTS] for *_, headers in retried) == [b"1", b"2"]
    ((*_, value, headers),) = read_all(kafka.bootstrap_servers, dead_letter_topic(source, group))
    assert value is not None
    notification, told = decode(value), dict(headers)
    assert (notification.message_id, notification.payload) == (message_id, {"keep": "this"})
    assert notification.context == {"user": "kim"}
    assert (told[TOPIC], told[OFFSET], told[ATTEMPTS]) == (source.encode(), b"0", b"3")
    assert listener.counts.handled == 1


def test_a_retry_outlives_the_listener_that_asked_for_it(kafka, topic, group):
    first, second = Endpoint(wanted_again), Endpoint()
    options: dict[str, Any] = {"settle": "after", "pool": group, "retry_delay": 3.0}
    with Listener(kafka.url, [topic], [first], **options) as listener:
        send(kafka.url, topic, 1)
        with Notifier(kafka.url, "n", topics=[topic]) as notifier:
            notifier.info({}, "again", {})
        until(lambda: listener.counts.requeued == 1 and listener.counts.received >= 2)
    with Listener(kafka.url, [topic], [second], **options):
        assert second.seen(1) == ["again"]


def test_retries_survive_a_member_that_joins_while_they_are_held(kafka, topic, group):
    kafka.create_topic(f"{topic}.info", 4)
    asked: set[str] = set()

    def once(event_type: str) -> NotificationResult | None:
        if event_type in asked:
            return None
        asked.add(event_type)
        return NotificationResult.REQUEUE

    endpoints = [Endpoint(once), Endpoint(once)]
    options: dict[str, Any] = {"settle": "after", "pool": group, "retry_delay": 4.0, "max_deliveries": 100}
    with Listener(kafka.url, [topic], [endpoints[0]], **options) as first:
        send(kafka.url, topic, 100)
        until(lambda: first.counts.requeued == 100)
        with Listener(kafka.url, [topic], [endpoints[1]], **options) as second:
            until(lambda: first.counts.handled + second.counts.handled >= 100)
    calls = Counter(call[2] for endpoint in endpoints for call in endpoint.calls.queue)
    assert set(calls) == {name for name, _ in numbered(100)}
    assert min(calls.values()) >= 2, "a retry was lost"
