"""rdknotify."""

from __future__ import annotations

from collections import deque

import rdknotify
from benchmarks.clients.base import Job, roles, stopwatch, turns
from benchmarks.setting import librdkafka_consuming, librdkafka_producing


def produce(job: Job) -> None:
    """`send_batch`; the outcome of every record is looked at."""
    with rdknotify.Producer(f"kafka://{job.brokers}", config=librdkafka_producing(job.compression)) as producer:
        for warming in [producer.send(topic, job.value) for topic in job.topics]:
            warming.result(30)
        with stopwatch(job):
            delivered = deliver(producer, job)
    assert delivered == job.records, f"{delivered} of {job.records} delivered"


def deliver(producer: rdknotify.Producer, job: Job) -> int:
    """Send the job's records and wait for their outcomes; returns how many were delivered."""
    values = [job.value] * job.batch
    pending: deque[rdknotify.Delivery] = deque()
    delivered = 0
    for topic in turns(job):
        pending.append(producer.send_batch(topic, values, timeout=60))
        while pending and pending[0].done():
            delivered += pending.popleft().result().delivered
    return delivered + sum(delivery.result(60).delivered for delivery in pending)


def consuming(job: Job) -> dict[str, str]:
    """Without what the others are told and is set already."""
    config = librdkafka_consuming(job.group)
    for default in ("group.id", "auto.offset.reset", "enable.auto.commit"):
        del config[default]
    return config


def consume(job: Job) -> None:
    """`poll` and `values()`."""
    with rdknotify.Consumer(f"kafka://{job.brokers}", job.topics, job.group, config=consuming(job)) as consumer:
        first = consumer.poll(job.batch, timeout=60)
        with stopwatch(job):
            taken = len(first.values())
            while taken < job.records:
                taken += len(consumer.poll(job.batch, timeout=10).values())


ROLES = roles(produce={"rdknotify": produce}, consume={"rdknotify": consume})
