"""kafka-python: ``send``, ``poll``."""

from __future__ import annotations

import time
from contextlib import closing

from benchmarks.clients.base import Job, roles
from benchmarks.clients.kafka_python import consumer, producer
from benchmarks.clients.latency.pace import Arrivals, paces, unstamp, value


def send(job: Job) -> None:
    with closing(producer(job)) as sender:
        for pace in paces(job):
            while not pace.over:
                for stamp in pace.due():
                    sender.send(job.topic, value(stamp, job.size))
                time.sleep(pace.wait())
            sender.flush(60)


def receive(job: Job) -> None:
    arrivals = Arrivals(job)
    with closing(consumer(job)) as reader:
        while not arrivals.complete.is_set():
            polled = reader.poll(timeout_ms=1000, max_records=job.batch)
            arrivals.take(unstamp(record.value) for records in polled.values() for record in records)


ROLES = roles(latency_send={"kafka-python": send}, latency_receive={"kafka-python": receive})
