"""Listening through oslo.messaging: how far offsets are ahead, what a stop, a crash or a new member costs."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from support.endpoints import SOON, Endpoint
from support.oslo_services import PROMPT, QUICK, Committed, end, send, send_numbers
from support.waiting import until

IN_HAND = 50
"""The option ``max_poll_records`` of these tests."""


class Gate:
    """An endpoint that lets nobody through until it is opened."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._open = threading.Event()

    def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
        self.begun.append(event_type)
        assert self._open.wait(SOON)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(oslo) -> Iterator[Gate]:
    """It is open in the end, so that listeners can be."""
    made = Gate()
    yield made
    made.open()


@pytest.fixture
def committed(kafka, topic: str, group: str) -> Iterator[Committed]:
    """Of the topic for ``info``, which has one partition."""
    kafka.create_topic(f"{topic}.info", 1)
    with Committed(kafka.bootstrap_servers, group, f"{topic}.info") as told:
        yield told


def seen_by(*endpoints: Endpoint) -> Counter[str]:
    return Counter(call[2] for endpoint in endpoints for call in list(endpoint.calls.queue))


# -- how far offsets are ahead -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 8])
def test_offsets_are_never_further_ahead_of_begun_endpoints_than_max_poll_records(
    oslo, topic, group, gate, committed, threads
):
    sent = send_numbers(oslo.transport(), topic, 500)
    oslo.server(topic, gate, group, threads=threads, max_poll_records=IN_HAND)
    until(lambda: len(gate.begun) == threads, "every thread is busy", SOON)
    until(committed.records, "they were committed", SOON)
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        assert committed.records() - threads <= IN_HAND
    gate.open()
    ahead = []
    while len(gate.begun) < len(sent):
        now = committed.records()  # asked first: more may have begun since, never fewer
        ahead.append(now - len(gate.begun))
    assert max(ahead, default=0) <= IN_HAND
    assert sorted(gate.begun) == sorted(sent)


def test_with_settle_after_nothing_is_committed_before_it_was_answered(oslo, topic, group, gate, committed):
    send_numbers(oslo.transport(), topic, 200)
    server = oslo.server(topic, gate, group, threads=4, settle="after", max_poll_records=IN_HAND)
    until(lambda: len(gate.begun) == 4, "every thread is busy", SOON)
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        assert committed.records() == 0
    gate.open()
    until(lambda: len(gate.begun) == 200, "all have begun", SOON)
    end(server)
    assert committed.records() == 200


# -- stop --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settle", ["before", "after"])
def test_a_stop_in_a_backlog_loses_nothing_and_repeats_nothing(oslo, kafka, topic, group, settle):
    kafka.create_topic(f"{topic}.info", 4)
    sent = send_numbers(oslo.transport(), topic, 2000)
    first, second = Endpoint(lambda event_type: time.sleep(0.001)), Endpoint()
    server = oslo.server(topic, first, group, threads=4, settle=settle)
    until(lambda: first.calls.qsize() > 10, "it is at work", SOON)
    end(server)
    assert first.calls.qsize() < len(sent), "it was stopped too late to show anything"
    oslo.server(topic, second, group, settle=settle)
    until(lambda: first.calls.qsize() + second.calls.qsize() >= len(sent), "the rest has come", SOON)
    assert seen_by(first, second) == Counter(sent)


def test_stop_ends_within_its_timeout_while_an_endpoint_does_not_return(oslo, topic, group, gate):
    send_numbers(oslo.transport(), topic, 100)
    server = oslo.server(topic, gate, group, threads=2, stop_timeout=1)
    until(lambda: len(gate.begun) == 2, "every thread is busy", SOON)
    begun = time.monotonic()
    server.stop()
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("settle", ["before", "after"])
def test_stop_and_wait_end_in_time_while_the_broker_is_silent(oslo, kafka, topic, group, settle):
    if not kafka.managed:
        pytest.skip("pauses the broker")
    endpoint = Endpoint()
    server = oslo.server(topic, endpoint, group, settle=settle, stop_timeout=1, close_timeout=1, commit_timeout=1)
    send(oslo.transport(), topic)
    endpoint.seen(1)
    kafka.pause()
    assert end(server) < 6


# -- crashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settle", ["before", "after"])
def test_killed_in_an_endpoint(oslo, topic, group, committed, settle):
    """Before: at most ``max_poll_records`` are lost, none is seen twice. After: none is lost, few are seen twice."""
    sent = send_numbers(oslo.transport(), topic, 400)
    file = oslo.file("seen")
    options = {"settle": settle, "max_poll_records": IN_HAND, "requeue_unsupported": "warn", "librdkafka": QUICK}
    assert oslo.process("listen", topic, group, file, 120, **options).wait(60) == -signal.SIGKILL
    before = file.read_text().split()
    assert len(before) == 120
    endpoint = Endpoint()
    oslo.server(topic, endpoint, group, settle=settle, max_poll_records=IN_HAND)
    until(lambda: sent[-1] in seen_by(endpoint) and committed.records() == len(sent), "the rest has come", SOON)
    total = Counter(before) + seen_by(endpoint)
    if settle == "before":
        assert max(total.values()) == 1
        assert len(sent) - IN_HAND <= len(total) <= len(sent)
    else:
        until(lambda: set(before) | set(seen_by(endpoint)) == set(sent), "nothing is lost", SOON)
        assert sum(total.values()) - len(sent) <= 2 * IN_HAND


# -- members that come and go ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"librdkafka": PROMPT}, {"group_protocol": "consumer"}], ids=["classic", "consumer"]
)
def test_members_that_join_and_leave_lose_nothing_and_repeat_nothing(oslo, kafka, topic, group, options):
    kafka.create_topic(f"{topic}.info", 4)
    endpoints = [Endpoint()]
    oslo.server(topic, endpoints[0], group, **options)
    sender, sent, done = oslo.transport(), [], threading.Event()

    def send_500_a_second() -> None:
        while not done.is_set():
            sent.extend(send_numbers(sender, topic, 5, first=len(sent)))
            time.sleep(0.01)

    sending = threading.Thread(target=send_500_a_second)
    sending.start()
    try:
        until(lambda: not endpoints[0].calls.empty(), "the first is at work", SOON)
        for _ in range(3):
            endpoints.append(Endpoint())
            server = oslo.server(topic, endpoints[-1], group, **options)
            until(lambda: endpoints[-1].calls.qsize() > 20, "the new one is at work", SOON)
            end(server)
    finally:
        done.set()
        sending.join()
    until(lambda: sum(seen_by(*endpoints).values()) >= len(sent), "all have come", SOON)
    assert seen_by(*endpoints) == Counter(sent)
