"""confluent-kafka: ``produce`` and ``poll``, ``poll``."""

from __future__ import annotations

import time
from contextlib import closing

from confluent_kafka import Consumer, Producer

from benchmarks.clients.base import Job, roles
from benchmarks.clients.latency.pace import Arrivals, paces, unstamp, value
from benchmarks.setting import librdkafka_consuming, librdkafka_producing


def _send(job: Job, config: dict[str, str]) -> None:
    producer = Producer({"bootstrap.servers": job.brokers, **config})
    for pace in paces(job):
        while not pace.over:
            for stamp in pace.due():
                _produce(producer, job.topic, value(stamp, job.size))
            producer.poll(0)
            time.sleep(pace.wait())
        producer.flush(60)


def _produce(producer: Producer, topic: str, value: bytes) -> None:
    while True:
        try:
            return producer.produce(topic, value)
        except BufferError:
            producer.poll(0.1)


def _receive(job: Job, config: dict[str, str]) -> None:
    arrivals = Arrivals(job)
    with closing(Consumer({"bootstrap.servers": job.brokers, **config})) as consumer:
        consumer.subscribe([job.topic])
        while not arrivals.complete.is_set():
            message = consumer.poll(1.0)
            if message is not None and (held := message.value()) is not None:
                arrivals.take([unstamp(held)])


def send(job: Job) -> None:
    _send(job, librdkafka_producing(job.compression))


def send_with_defaults(job: Job) -> None:
    _send(job, {})


def receive(job: Job) -> None:
    _receive(job, librdkafka_consuming(job.group))


def receive_with_defaults(job: Job) -> None:
    _receive(job, {"group.id": job.group, "auto.offset.reset": "earliest"})


ROLES = roles(
    latency_send={"confluent": send, "confluent, its defaults": send_with_defaults},
    latency_receive={"confluent": receive, "confluent, its defaults": receive_with_defaults},
)
