"""Consumers of group ``g`` and topic ``t``, one member where that will do.

The mock's classic group takes the session timeout less a second for each rebalance after its first.
"""

from __future__ import annotations

import pytest

from rdknotify.consumer import Consumer
from rdknotify.producer import Producer

QUICK = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 200}


@pytest.fixture
def topic(mock_cluster):
    mock_cluster.create_topic("t", 4)
    return "t"


@pytest.fixture
def producer(mock_cluster):
    with Producer(mock_cluster.url) as producer:
        yield producer


@pytest.fixture
def make(mock_cluster, topic):
    """``make(**options)``: a consumer of group ``g`` and topic ``t``, closed at the end of the test."""
    made = []

    def make(*, topics=(topic,), group="g", config=None, **options):
        classic = options.get("group_protocol") != "consumer"
        config = {**(QUICK if classic else {}), **(config or {})}
        made.append(Consumer(mock_cluster.url, list(topics), group, config=config, **options))
        return made[-1]

    yield make
    mock_cluster.delay(0)
    for consumer in made:
        consumer.close()
