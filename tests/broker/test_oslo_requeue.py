"""``allow_requeue=True`` on real Kafka: refused where it cannot be granted, else again after a while, then buried."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from typing import Any

import pytest
from support.endpoints import SOON, BatchEndpoint, Endpoint
from support.oslo import oslo_messaging
from support.oslo_services import end, send, send_numbers
from support.reader import read_all
from support.waiting import until

from rdknotify.envelope import decode

REQUEUE = oslo_messaging.NotificationResult.REQUEUE
DELAY = 0.7
"""Seconds: the option ``retry_delay`` of these tests."""


class Unwilling:
    """An endpoint, for batches too, that wants what is called "again" again, and tells when it had it."""

    def __init__(self, raises: bool) -> None:
        self.times: list[float] = []
        self.others: list[str] = []
        self._raises = raises

    def info(self, *call: Any) -> Any:
        event_types = [call[2]] if len(call) > 1 else [each["event_type"] for each in call[0]]
        self.others += [event_type for event_type in event_types if event_type != "again"]
        if "again" not in event_types:
            return None
        self.times.append(time.monotonic())
        if self._raises:
            raise RuntimeError("the database is busy")
        return REQUEUE


def test_requeue_is_refused_at_start_where_offsets_are_committed_before(oslo, topic, group):
    server = oslo.server(topic, Endpoint(), group, allow_requeue=True, start=False)
    with pytest.raises(NotImplementedError, match="settle = after"):
        server.start()


def test_a_listener_that_may_not_requeue_starts_with_a_warning_if_so_configured(oslo, topic, group, caplog):
    endpoint = Endpoint(lambda event_type: REQUEUE)
    with caplog.at_level(logging.WARNING):
        oslo.server(topic, endpoint, group, allow_requeue=True, requeue_unsupported="warn")
    assert "settle = after" in caplog.text
    send_numbers(oslo.transport(), topic, 2)
    assert sorted(endpoint.seen(2)) == ["0", "1"]


@pytest.mark.parametrize(("raises", "batch_size"), [(False, 0), (True, 10)], ids=["returns", "batch-raises"])
def test_what_is_wanted_again_comes_again_after_a_while_and_is_a_dead_letter_in_the_end(
    oslo, kafka, topic, group, raises, batch_size
):
    endpoint, dead = Unwilling(raises), f"{topic}.dead"
    options = {"settle": "after", "retry_delay": DELAY, "max_deliveries": 3, "dead_letter_topic": dead}
    server = oslo.server(topic, endpoint, group, allow_requeue=True, batch_size=batch_size, **options)
    sender = oslo.transport()
    send(sender, topic, "again", {"keep": "this"}, retry=0)
    until(lambda: endpoint.times, "it has come", SOON)
    send(sender, topic, "neighbour", retry=0)
    until(lambda: len(endpoint.times) == 3, "it has come three times", SOON)
    assert min(later - earlier for earlier, later in itertools.pairwise(endpoint.times)) >= DELAY - 0.05
    end(server)
    ((*_, value, _),) = read_all(kafka.bootstrap_servers, dead)
    assert decode(value or b"").payload == {"keep": "this"}
    assert (len(endpoint.times), endpoint.others) == (3, ["neighbour"])


def test_a_batch_that_is_wanted_again_comes_again_whole(oslo, kafka, topic, group):
    kafka.create_topic(f"{topic}.info", 1)
    answers = iter([REQUEUE])
    endpoint = BatchEndpoint(lambda event_types: next(answers, None))
    options = {"settle": "after", "retry_delay": DELAY}
    oslo.server(topic, endpoint, group, allow_requeue=True, batch_size=5, batch_timeout=3.0, **options)
    sent = send_numbers(oslo.transport(), topic, 5)
    assert endpoint.calls.get(timeout=SOON) == sent
    got: Counter[str] = Counter()
    while got.total() < 5:
        got.update(endpoint.calls.get(timeout=SOON))
    assert got == Counter(sent)


def test_a_retry_outlives_the_listener_that_asked_for_it(oslo, topic, group):
    options: dict[str, Any] = {"settle": "after", "retry_delay": 2.0, "allow_requeue": True}
    first, second = Endpoint(lambda event_type: REQUEUE), Endpoint()
    send(oslo.transport(), topic, "again", retry=0)
    server = oslo.server(topic, first, group, **options)
    assert first.seen(1) == ["again"]
    end(server)
    oslo.server(topic, second, group, **options)
    assert second.seen(1) == ["again"]


def test_without_allow_requeue_whatever_an_endpoint_says_settles(oslo, topic, group):
    endpoint = Endpoint(lambda event_type: REQUEUE)
    server = oslo.server(topic, endpoint, group, settle="after", retry_delay=0.1)
    sender = oslo.transport()
    send_numbers(sender, topic, 3)
    assert sorted(endpoint.seen(3)) == ["0", "1", "2"]
    end(server)
    send(sender, topic, "last", retry=0)
    later = Endpoint()
    oslo.server(topic, later, group, settle="after")
    assert later.seen(1) == ["last"]
    assert endpoint.calls.empty() and later.calls.empty()
