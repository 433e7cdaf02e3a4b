"""A node that is fenced, as one that stood still for seconds, names topics and no brokers: clients outlast that."""

from __future__ import annotations

from contextlib import ExitStack

from support.hostile import METADATA, Middle
from support.waiting import until

from rdknotify import Producer
from rdknotify.testing.mock import MockCluster

COUNTS = 4 + 1 + 4
"""Where the brokers are counted: behind correlation id, tags and throttle time."""
PRODUCERS, ROUNDS = 10, 5
"""Which of its threads is first decides whether librdkafka as it comes is lost: of so many, some were each time."""


def name_no_brokers(kind: int, answer: bytearray) -> None:
    """Take the brokers out of the answer to a Metadata request of version 9 or later."""
    if kind != METADATA:
        return
    at = COUNTS + 1
    for _ in range(answer[COUNTS] - 1):
        at += 4  # the node's number
        at += answer[at] + 4  # host, whose length counts itself, and port
        at += max(answer[at], 1) + 1  # rack, which may be null, and tags
    answer[COUNTS:at] = b"\1"


def test_clients_outlast_a_node_that_names_no_brokers(mock_cluster: MockCluster) -> None:
    mock_cluster.create_topic("t", 2)
    options = {"config": {"topic.metadata.refresh.interval.ms": 100}, "flush_timeout": 1}
    with Middle(mock_cluster.bootstrap_servers) as middle, ExitStack() as stack:
        url = f"kafka://{middle.address}"
        producers = [stack.enter_context(Producer(url, **options)) for _ in range(PRODUCERS)]

        def deliver() -> None:
            for delivery in [producer.send_batch("t", [b"v"] * 10) for producer in producers]:
                delivery.result(10).raise_for_failures()

        for number in range(ROUNDS):
            deliver()
            middle.spoil, middle.spoiled = name_no_brokers, 0
            until(lambda: middle.spoiled >= 6 * PRODUCERS, f"round {number}: all have been told of no brokers")
            middle.spoil = None
            deliver()
