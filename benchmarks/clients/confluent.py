"""confluent-kafka: the same librdkafka behind another binding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, Producer

from benchmarks.clients.base import Job, roles, stopwatch, turns
from benchmarks.setting import librdkafka_consuming, librdkafka_producing

Report = Callable[[Any, Any], None]


@contextmanager
def _producer(job: Job) -> Iterator[tuple[Producer, Report]]:
    """A connected producer and its delivery callback; the clock runs until every record of the block is delivered."""
    outcomes = [0, 0]

    def delivered(error: Any, _message: Any) -> None:
        outcomes[error is not None] += 1

    producer = Producer({"bootstrap.servers": job.brokers, **librdkafka_producing(job.compression)})
    for topic in job.topics:
        producer.produce(topic, job.value, on_delivery=delivered)
    producer.flush(30)
    with stopwatch(job):
        yield producer, delivered
        producer.flush(60)
    assert outcomes == [job.records + len(job.topics), 0], outcomes


def produce(job: Job) -> None:
    value = job.value
    with _producer(job) as (producer, delivered):
        for topic in turns(job):
            for _ in range(job.batch):
                while True:
                    try:
                        producer.produce(topic, value, on_delivery=delivered)
                        break
                    except BufferError:
                        producer.poll(0.1)
            producer.poll(0)


def produce_batch(job: Job) -> None:
    value = job.value
    with _producer(job) as (producer, delivered):
        for topic in turns(job):
            wanted = [{"value": value, "callback": delivered} for _ in range(job.batch)]
            while wanted:
                producer.produce_batch(topic, wanted)
                wanted = [message for message in wanted if "_error" in message]
                for message in wanted:
                    del message["_error"]
                producer.poll(0.1 if wanted else 0)


def _consume(job: Job, config: dict[str, str], batch: int) -> None:
    consumer = Consumer({"bootstrap.servers": job.brokers, **config})
    consumer.subscribe(job.topics)
    messages: list[Any] = []
    while not messages:
        messages = consumer.consume(1, 60)
    taken = len(messages)
    with stopwatch(job):
        if batch == 1:
            while taken < job.records:
                message = consumer.poll(1.0)
                taken += message is not None and message.value() is not None
        while taken < job.records:
            # It waits until it has as many as it was asked for.
            for message in consumer.consume(min(batch, job.records - taken), 1.0):
                taken += message.value() is not None
    consumer.close()


def consume(job: Job) -> None:
    _consume(job, librdkafka_consuming(job.group), job.batch)


def poll(job: Job) -> None:
    _consume(job, librdkafka_consuming(job.group), 1)


def consume_with_defaults(job: Job) -> None:
    """As somebody has it who sets only what the task needs."""
    config = librdkafka_consuming(job.group)
    _consume(job, {name: config[name] for name in ("group.id", "auto.offset.reset", "enable.auto.commit")}, job.batch)


ROLES = roles(
    produce={"confluent produce": produce, "confluent produce_batch": produce_batch},
    consume={
        "confluent consume": consume,
        "confluent poll": poll,
        "confluent consume, its defaults": consume_with_defaults,
    },
)
