"""What a polled batch costs to look at: its records, columns, and the notifications in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.micro.conftest import LONG_LINGER_MS, NOVA
from benchmarks.setting import BATCH, SIZE
from rdknotify import Consumer, Producer
from rdknotify.consumer import Batch
from rdknotify.envelope import decode, encode_new
from rdknotify.sinks import NOTIFICATION
from rdknotify.testing import MockCluster

if TYPE_CHECKING:
    from benchmarks.micro.conftest import Measure


def polled(mock: MockCluster, topic: str, values: list[bytes]) -> Batch:
    """One batch with all these records, from a topic with one partition."""
    mock.create_topic(topic, partitions=1)
    with Producer(mock.url, config={"linger.ms": LONG_LINGER_MS}) as producer:
        producer.send_batch(topic, values, [b"key-%d" % number for number in range(len(values))])
        producer.flush(10)
    with Consumer(mock.url, [topic], topic) as consumer:
        batch = consumer.poll(len(values), 10)
    assert len(batch) == len(values)
    return batch


@pytest.fixture(scope="module")
def batch(mock: MockCluster) -> Batch:
    return polled(mock, "small", [b"x" * SIZE] * BATCH)


@pytest.fixture(scope="module")
def nova_batch(mock: MockCluster) -> Batch:
    return polled(mock, "nova", [encode_new(*event)[1] for event in NOVA])


def test_len(measure: Measure, batch: Batch) -> None:
    assert measure(1, lambda: len(batch)) == BATCH


def test_index(measure: Measure, batch: Batch) -> None:
    assert measure(1, lambda: batch[500]).offset == 500


def test_iterate(measure: Measure, batch: Batch) -> None:
    def work() -> int:
        count = 0
        for _ in batch:
            count += 1
        return count

    assert measure(BATCH, work) == BATCH


def test_iterate_and_take_values(measure: Measure, batch: Batch) -> None:
    assert len(b"".join(measure(BATCH, lambda: [record.value or b"" for record in batch]))) == BATCH * SIZE


def test_values(measure: Measure, batch: Batch) -> None:
    assert measure(BATCH, batch.values) == [b"x" * SIZE] * BATCH


def test_keys(measure: Measure, batch: Batch) -> None:
    assert measure(BATCH, batch.keys)[-1] == b"key-999"


def test_origins(measure: Measure, batch: Batch) -> None:
    assert measure(BATCH, batch.origins)[-1] == ("small", 0, BATCH - 1)


def test_timestamps(measure: Measure, batch: Batch) -> None:
    assert None not in measure(BATCH, batch.timestamps)


def test_positions(measure: Measure, batch: Batch) -> None:
    assert [position[:3] for position in measure(BATCH, batch.positions)] == [("small", 0, BATCH)]


def test_decode(measure: Measure, nova_batch: Batch) -> None:
    decoded = measure(len(nova_batch), lambda: [decode(value or b"") for value in nova_batch.values()])
    assert len({notification.message_id for notification in decoded}) == len(nova_batch)


def test_rows(measure: Measure, nova_batch: Batch) -> None:
    """What the persister stores of a batch."""
    rows, poison = measure(len(nova_batch), lambda: NOTIFICATION.rows(nova_batch))
    assert (len(rows), len(poison)) == (len(nova_batch), 0)
