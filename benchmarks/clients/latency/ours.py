"""rdknotify's producer and consumer."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.clients.base import Job, roles
from benchmarks.clients.latency.pace import Arrivals, paces, unstamp, value
from benchmarks.clients.ours import consuming
from benchmarks.setting import librdkafka_producing
from rdknotify import Consumer, Producer


def _send(job: Job, config: dict[str, str]) -> None:
    with Producer(f"kafka://{job.brokers}", config=config) as producer:
        for pace in paces(job):
            while not pace.over:
                producer.send_batch(job.topic, [value(stamp, job.size) for stamp in pace.due()])
                time.sleep(pace.wait())
            producer.flush(60)


def _receive(job: Job, **given: Any) -> None:
    arrivals = Arrivals(job)
    with Consumer(f"kafka://{job.brokers}", [job.topic], job.group, **given) as consumer:
        while not arrivals.complete.is_set():
            arrivals.take(map(unstamp, consumer.poll().values()))


def send(job: Job) -> None:
    _send(job, librdkafka_producing(job.compression))


def send_with_defaults(job: Job) -> None:
    _send(job, {})


def receive(job: Job) -> None:
    _receive(job, config=consuming(job), max_poll_records=job.batch)


def receive_with_defaults(job: Job) -> None:
    _receive(job)


ROLES = roles(
    latency_send={"rdknotify": send, "rdknotify, its defaults": send_with_defaults},
    latency_receive={"rdknotify": receive, "rdknotify, its defaults": receive_with_defaults},
)
