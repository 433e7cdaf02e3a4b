"""Listening through oslo.messaging's public API: who gets what, how soon, in which order; what is no notification."""

from __future__ import annotations

import json
import logging
import statistics
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from support.endpoints import SOON, BatchEndpoint, Endpoint
from support.oslo_services import PROMPT, end, send, send_numbers
from support.reader import read_all
from support.waiting import until

from rdknotify.envelope import encode, new_notification


def event_types(endpoint: Endpoint) -> list[str]:
    """What the endpoint has got so far."""
    return [call[2] for call in list(endpoint.calls.queue)]


# -- who gets what -----------------------------------------------------------------------------------------------------


def test_a_listener_gets_what_was_sent_on_its_virtual_host_and_nothing_else(oslo, topic, group):
    endpoints = {vhost: Endpoint() for vhost in ("", "vh1", "vh2")}
    for vhost in endpoints:
        sender = oslo.transport(vhost)
        send(sender, topic, f"{vhost}.1")
        send(sender, topic, f"{vhost}.2", retry=0)
    servers = [oslo.server(topic, endpoints[vhost], group, vhost=vhost) for vhost in endpoints]
    got = {vhost: sorted(endpoint.seen(2)) for vhost, endpoint in endpoints.items()}
    assert got == {vhost: [f"{vhost}.1", f"{vhost}.2"] for vhost in endpoints}
    end(*servers)
    assert all(endpoint.calls.empty() for endpoint in endpoints.values())


def test_a_backlog_is_received_whole_at_each_start(oslo, topic, group):
    sender = oslo.transport()
    for start in range(3):
        sent = send_numbers(sender, topic, 10, first=10 * start)
        endpoint = Endpoint()
        server = oslo.server(topic, endpoint, group)
        assert sorted(endpoint.seen(10)) == sorted(sent)
        end(server)
        assert endpoint.calls.empty()


def test_a_listener_that_was_started_before_its_topic_exists_gets_the_first_notification(oslo, topic, group):
    endpoint = Endpoint()
    oslo.server([f"{topic}-old", topic], endpoint, group)
    sender = oslo.transport()
    send(sender, f"{topic}-old", "it is at work")
    assert endpoint.seen(1) == ["it is at work"]
    send(sender, topic, "the very first")
    assert endpoint.seen(1) == ["the very first"]


def test_pools_each_get_everything_and_members_of_one_share_it(oslo, kafka, topic, group):
    kafka.create_topic(f"{topic}.info", 4)
    members, alone = [Endpoint(), Endpoint()], Endpoint()
    for endpoint in members:
        oslo.server(topic, endpoint, f"{group}-shared", librdkafka=PROMPT)
    oslo.server(topic, alone, f"{group}-alone")
    sender, sent = oslo.transport(), []

    def both_have_some() -> bool:
        sent.extend(send_numbers(sender, topic, 5, first=len(sent)))
        return not any(member.calls.empty() for member in members)

    until(both_have_some, "both members have got some", SOON)
    until(lambda: sum(member.calls.qsize() for member in members) >= len(sent), "all are shared", SOON)
    until(lambda: alone.calls.qsize() >= len(sent), "the other pool has got all", SOON)
    assert Counter(event_types(members[0]) + event_types(members[1])) == Counter(sent)
    assert Counter(event_types(alone)) == Counter(sent)


def test_the_default_group_is_the_one_that_is_configured(oslo, topic, group):
    first, second = Endpoint(), Endpoint()
    sender = oslo.transport()
    send(sender, topic, "1", retry=0)
    server = oslo.server(topic, first, None, consumer_group=group)
    assert first.seen(1) == ["1"]
    end(server)
    send(sender, topic, "2", retry=0)
    oslo.server(topic, second, group)
    assert second.seen(1) == ["2"], "the pool of that name goes on where the default group ended"


def test_each_priority_reaches_the_method_of_its_name_and_no_other(oslo, topic, group):
    got: dict[str, list[str]] = defaultdict(list)

    class Urgent:
        def error(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
            got["error"].append(event_type)

        def critical(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
            got["critical"].append(event_type)

    oslo.server(topic, Urgent(), group)
    notifier = oslo.notifier(topic)
    for priority in ("info", "error", "warn", "critical"):
        getattr(notifier, priority)({}, f"is.{priority}", {})
    until(lambda: len(got) == 2, "both have come", SOON)
    assert got == {"error": ["is.error"], "critical": ["is.critical"]}


def test_an_endpoint_gets_what_was_given_to_the_notifier(oslo, topic, group):
    endpoint = Endpoint()
    oslo.server(topic, endpoint, group)
    oslo.notifier(topic, publisher="compute.node1").info({}, "e", {"key": ["välue", 1, None]})
    ctxt, publisher, event_type, payload, metadata = endpoint.calls.get(timeout=SOON)
    assert (ctxt, publisher, event_type, payload) == ({}, "compute.node1", "e", {"key": ["välue", 1, None]})
    assert set(metadata) == {"message_id", "timestamp"} and all(metadata.values())


# -- how soon ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [0, 100])
def test_on_an_idle_topic_a_notification_is_handed_out_at_once(oslo, topic, group, batch_size):
    arrived: dict[str, float] = {}

    class Clock:
        def info(self, *call: Any) -> None:
            now = time.monotonic()
            for event_type in [call[2]] if len(call) > 1 else [each["event_type"] for each in call[0]]:
                arrived[event_type] = now

    oslo.server(topic, Clock(), group, batch_size=batch_size)
    sender = oslo.transport()
    until(lambda: send(sender, topic, "at work?", retry=0) and arrived, "the listener is at work", SOON)
    latencies = []
    for number in map(str, range(30)):
        begun = time.monotonic()
        send(sender, topic, number)
        until(lambda number=number: number in arrived, "it has come", SOON)
        latencies.append(arrived[number] - begun)
        time.sleep(0.02)
    assert statistics.median(latencies) < 0.05


def test_a_batch_without_a_timeout_is_what_is_there(oslo, topic, group):
    endpoint = BatchEndpoint()
    oslo.server(topic, endpoint, group, batch_size=100)
    sender = oslo.transport()
    sent = send_numbers(sender, topic, 3)
    got: list[str] = []
    while len(got) < 3:
        got += endpoint.calls.get(timeout=SOON)
    assert sorted(got) == sent


def test_a_batch_with_a_timeout_is_filled_up_to_its_size_and_never_waits_longer(oslo, kafka, topic, group):
    kafka.create_topic(f"{topic}.info", 1)
    endpoint = BatchEndpoint()
    oslo.server(topic, endpoint, group, batch_size=10, batch_timeout=2.0)
    sender = oslo.transport()
    send_numbers(sender, topic, 4)
    time.sleep(0.3)
    send_numbers(sender, topic, 8, first=4)
    assert endpoint.calls.get(timeout=SOON) == [str(number) for number in range(10)]
    begun = time.monotonic()
    assert endpoint.calls.get(timeout=SOON) == ["10", "11"]
    assert 1.0 < time.monotonic() - begun < 3.5


def test_a_start_while_the_broker_is_silent_is_logged_and_heals_by_itself(oslo, kafka, topic, group, caplog):
    if not kafka.managed:
        pytest.skip("pauses the broker")
    send(oslo.transport(), topic, "waits", retry=0)
    kafka.pause()
    endpoint = Endpoint()
    begun = time.monotonic()
    oslo.server(topic, endpoint, group)
    assert time.monotonic() - begun < 15
    until(lambda: any(record.levelno >= logging.ERROR for record in caplog.records), "it is logged", 15)
    kafka.resume()
    assert endpoint.seen(1) == ["waits"]


# -- order -------------------------------------------------------------------------------------------------------------


def test_one_thread_sees_a_partition_in_its_order(oslo, kafka, topic, group):
    kafka.create_topic(f"{topic}.info", 1)
    endpoint = Endpoint()
    sent = send_numbers(oslo.transport(), topic, 1000)
    oslo.server(topic, endpoint, group, threads=1)
    assert endpoint.seen(1000) == sent


def test_many_threads_see_each_key_in_its_order_and_one_at_a_time(oslo, kafka, topic, group):
    kafka.create_topic(f"{topic}.info", 2)
    seen: dict[str, list[int]] = defaultdict(list)
    inside: Counter[str] = Counter()
    most: Counter[str] = Counter()
    lock = threading.Lock()

    class Slow:
        def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
            with lock:
                seen[publisher_id].append(payload)
                inside[publisher_id] += 1
                most[publisher_id] = max(most[publisher_id], inside[publisher_id])
                most["all"] = max(most["all"], inside.total())
            time.sleep(0.002)
            with lock:
                inside[publisher_id] -= 1

    notifier = oslo.notifier(topic, notification_key="publisher_id")
    publishers = [notifier.prepare(publisher_id=f"p{number}") for number in range(10)]
    for number in range(50):
        for publisher in publishers:
            publisher.info({}, "e", number)
    oslo.server(topic, Slow(), group)
    until(lambda: sum(map(len, seen.values())) >= 500, "all have come", SOON)
    assert all(numbers == list(range(50)) for numbers in seen.values()), seen
    assert most.pop("all") > 1, "they are worked on side by side"
    assert set(most.values()) == {1}


# -- what is no notification -------------------------------------------------------------------------------------------


def good(event_type: str) -> bytes:
    return encode(new_notification("n", event_type, "info", {}))


def bare(event_type: str) -> bytes:
    """A notification without a context, which is none for the existing driver."""
    message = json.loads(json.loads(good(event_type))["oslo.message"])
    del message["_context"]
    return json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(message)}).encode()


POISON = {
    "no JSON": b"not json",
    "null": None,
    "another version": json.dumps({"oslo.version": "3.0", "oslo.message": "{}"}).encode(),
}


@pytest.fixture
def poisoned(kafka, topic: str) -> str:
    """A topic whose one partition has bad records among good ones, all in one batch."""
    kafka.create_topic(f"{topic}.info", 1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 100})
    for number, value in enumerate(POISON.values()):
        producer.produce(f"{topic}.info", good(f"before.{number}"))
        producer.produce(f"{topic}.info", value)
    producer.produce(f"{topic}.info", bare("bare"))
    producer.produce(f"{topic}.info", good("last"))
    assert producer.flush(10) == 0
    return topic


NEIGHBOURS = ["before.0", "before.1", "before.2", "bare", "last"]


@pytest.mark.parametrize("batch_size", [0, 100])
def test_what_is_no_notification_is_logged_and_skipped_and_its_neighbours_arrive(
    oslo, poisoned, group, caplog, batch_size
):
    endpoint: Any = BatchEndpoint() if batch_size else Endpoint()
    oslo.server(poisoned, endpoint, group, threads=1, batch_size=batch_size)
    got: list[str] = []
    while len(got) < len(NEIGHBOURS):
        got += endpoint.calls.get(timeout=SOON) if batch_size else endpoint.seen(1)
    assert got == NEIGHBOURS

    def told() -> set[int]:
        text = caplog.text
        return {offset for offset in range(8) if f"{poisoned}.info-0 offset {offset}" in text}

    until(lambda: told() == {1, 3, 5}, "each is logged with its place")


def test_what_is_no_notification_goes_to_the_dead_letter_topic_that_is_set(oslo, kafka, poisoned, group):
    endpoint, dead = Endpoint(), f"{poisoned}.dead"
    server = oslo.server(poisoned, endpoint, group, threads=1, dead_letter_topic=dead)
    assert endpoint.seen(len(NEIGHBOURS)) == NEIGHBOURS
    end(server)
    letters = [row[3] for row in read_all(kafka.bootstrap_servers, dead)]
    assert sorted(map(str, letters)) == sorted(map(str, POISON.values()))


def test_a_notification_of_no_known_priority_does_not_hold_up_the_next(oslo, kafka, topic, group, tmp_path: Path):
    kafka.create_topic(f"{topic}.info", 1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(f"{topic}.info", good("odd").replace(b"INFO", b"SOME"))
    producer.produce(f"{topic}.info", good("next"))
    assert producer.flush(10) == 0
    endpoint = Endpoint()
    server = oslo.server(topic, endpoint, group, threads=1, settle="after")
    assert endpoint.seen(1) == ["next"]
    end(server)
    again = Endpoint()
    send(oslo.transport(), topic, "later", retry=0)
    oslo.server(topic, again, group, threads=1, settle="after")
    assert again.seen(1) == ["later"], "both were settled"
