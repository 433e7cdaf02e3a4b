"""Leaving a group on real Kafka, which knows its members better than the mock: there one that joined twice lingers."""

from __future__ import annotations

import time

import pytest
from support.waiting import until

from rdknotify import Consumer


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_closing_leaves_the_group_at_once(kafka, topic, group, protocol):
    kafka.create_topic(topic, 2)
    config = {"session.timeout.ms": 30_000} if protocol == "classic" else {}

    def member() -> Consumer:
        return Consumer(kafka.url, [topic], group, config=config, group_protocol=protocol)

    def assigned(consumer: Consumer) -> bool:
        consumer.poll(timeout=0.1)
        return len(consumer.assignment()) == 2

    with member() as first:
        until(lambda: assigned(first))
    begun = time.monotonic()
    with member() as second:
        until(lambda: assigned(second))
    assert time.monotonic() - begun < 5, "the first member's session had to expire"
