"""kafka-python: all in Python, a thread of its own sends."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from typing import Any

from kafka import KafkaConsumer, KafkaProducer
from kafka.partitioner import StickyPartitioner

from benchmarks.clients.base import Job, roles, stopwatch, turns
from benchmarks.setting import BATCH_BYTES, IN_FLIGHT, python_consuming, python_producing


def producer(job: Job) -> KafkaProducer:
    """Connected."""
    return KafkaProducer(
        **python_producing(job.brokers, job.compression),
        batch_size=BATCH_BYTES,
        partitioner=StickyPartitioner(),  # the default looks at all partitions for each record
    )


def consumer(job: Job) -> KafkaConsumer:
    return KafkaConsumer(job.topic, **python_consuming(job.brokers, job.group))


def produce(job: Job) -> None:
    """`send`, a future for each record."""
    value = job.value
    with closing(producer(job)) as sender:
        sender.send(job.topic, value).get(30)
        pending: deque[Any] = deque()
        with stopwatch(job):
            for topic in turns(job):
                for _ in range(job.batch):
                    pending.append(sender.send(topic, value))
                _settle(pending, IN_FLIGHT - job.batch)
            sender.flush()
            _settle(pending, 0)


def _settle(pending: deque[Any], most: int) -> None:
    """Let go of what is delivered, and wait until no more than so many are not. Raises what kept one from it."""
    while pending and pending[0].succeeded():
        pending.popleft()
    while len(pending) > most:
        pending.popleft().get(60)


def consume(job: Job) -> None:
    """`poll`, twice as fast as the iterator."""
    with closing(consumer(job)) as reader:
        taken = 0
        while not taken:
            taken = sum(map(len, reader.poll(timeout_ms=1000, max_records=1).values()))
        with stopwatch(job):
            while taken < job.records:
                for records in reader.poll(timeout_ms=1000, max_records=job.batch).values():
                    for record in records:
                        taken += record.value is not None


ROLES = roles(produce={"kafka-python": produce}, consume={"kafka-python": consume})
