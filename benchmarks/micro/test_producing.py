"""Sending to librdkafka's in-process cluster: enqueue, wait for the outcomes, read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from benchmarks.micro.conftest import LONG_LINGER_MS, TOPIC
from benchmarks.oslo.client import PAYLOAD
from benchmarks.setting import BATCH, SIZE
from rdknotify import Delivery, Notifier, Outcome, Producer
from rdknotify.testing import MockCluster

if TYPE_CHECKING:
    from benchmarks.micro.conftest import Measure

VALUES = [b"x" * SIZE] * BATCH
KEYS = [b"instance-%d" % number for number in range(BATCH)]
EVENTS = 50
"""Of a small bulk."""


class TestEnqueue:
    """Before each round the queue is empty, and nothing is sent in it."""

    def test_send(self, measure: Measure, producer: Producer) -> None:
        deliveries: list[Delivery] = []

        def work() -> None:
            deliveries[:] = [producer.send(TOPIC, value) for value in VALUES]

        measure.prepared(BATCH, lambda: producer.flush(10), work)
        producer.flush(10)
        assert sum(delivery.result(0).delivered for delivery in deliveries) == BATCH

    @pytest.mark.parametrize("keys", [None, KEYS], ids=["no keys", "keys"])
    def test_send_batch(self, measure: Measure, producer: Producer, keys: list[bytes] | None) -> None:
        deliveries: list[Delivery] = []

        def work() -> None:
            deliveries[:] = [producer.send_batch(TOPIC, VALUES, keys)]

        measure.prepared(BATCH, lambda: producer.flush(10), work)
        producer.flush(10)
        assert deliveries[0].result(0).delivered == BATCH


class TestOutcomes:
    def test_flush_and_result(self, measure: Measure, producer: Producer) -> None:
        """The way to the cluster and back is part of it."""
        deliveries: list[Delivery] = []

        def prepare() -> None:
            deliveries[:] = [producer.send_batch(TOPIC, VALUES)]

        def work() -> None:
            producer.flush(10)
            assert deliveries[0].result(0).delivered == BATCH

        measure.prepared(BATCH, prepare, work)

    def test_result_of_a_delivered_batch(self, measure: Measure, producer: Producer) -> None:
        delivery = producer.send_batch(TOPIC, VALUES)
        producer.flush(10)
        assert measure(BATCH, delivery.result).delivered == BATCH

    def test_result_of_a_batch_that_failed(self, measure: Measure, producer: Producer) -> None:
        delivery = producer.send_batch(TOPIC, VALUES)
        producer.purge()
        assert delivery.wait(10)
        failures = measure(BATCH, delivery.result).failures
        assert [failure.outcome for failure in failures] == [Outcome.NOT_PERSISTED] * BATCH

    def test_result_of_one(self, measure: Measure, producer: Producer) -> None:
        delivery = producer.send(TOPIC, VALUES[0])
        producer.flush(10)
        assert measure(1, delivery.result).delivered == 1


class TestNotifier:
    """Encoded, enqueued, and entered in the ledger."""

    @pytest.fixture
    def notifier(self, mock: MockCluster) -> Iterator[Notifier]:
        with Notifier(mock.url, "compute.node1", [TOPIC], config={"linger.ms": LONG_LINGER_MS}) as notifier:
            yield notifier

    def test_info(self, measure: Measure, notifier: Notifier) -> None:
        def work() -> None:
            for _ in range(BATCH):
                notifier.info({}, "compute.instance.update", PAYLOAD)

        measure.prepared(BATCH, lambda: notifier.flush(10), work)
        notifier.flush(10)  # raises what was not delivered

    def test_notify_batch(self, measure: Measure, notifier: Notifier) -> None:
        events = [("compute.instance.update", PAYLOAD)] * EVENTS

        def work() -> None:
            for _ in range(BATCH // EVENTS):
                notifier.notify_batch("info", events)

        measure.prepared(BATCH, lambda: notifier.flush(10), work)
        notifier.flush(10)
