"""One run of one Python client, in a process of its own: prints what ``limit.c`` prints, as one line of JSON.

``python -m benchmarks.client CLIENT produce BROKERS TOPIC RECORDS SIZE BATCH [NAME=VALUE ...]``
``python -m benchmarks.client CLIENT consume BROKERS TOPIC RECORDS BATCH [NAME=VALUE ...]``
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Settings = dict[str, str]


@contextmanager
def stopwatch(records: int) -> Iterator[None]:
    """Print records, wall seconds and CPU seconds of this process when the block ends."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    seconds, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"records": records, "seconds": seconds, "cpu": cpu}))


def rdknotify_produce(brokers: str, topic: str, records: int, size: int, batch: int, config: Settings) -> None:
    import rdknotify

    values = [b"x" * size] * batch
    with rdknotify.Producer(f"kafka://{brokers}", config=config) as producer:
        producer.send(topic, values[0]).result(30)
        pending: deque[rdknotify.Delivery] = deque()
        delivered = 0
        with stopwatch(records):
            for _ in range(records // batch):
                pending.append(producer.send_batch(topic, values, timeout=60))
                while pending and pending[0].done():
                    delivered += pending.popleft().result().delivered
            delivered += sum(delivery.result(60).delivered for delivery in pending)
    assert delivered == records, f"{delivered} of {records} delivered"


def rdknotify_consume(brokers: str, topic: str, records: int, batch: int, config: Settings) -> None:
    import rdknotify

    taken = 0
    group = config.pop("group.id")
    for ours in ("auto.offset.reset", "enable.auto.commit"):  # rdknotify's defaults are what the others are told
        del config[ours]
    with rdknotify.Consumer(f"kafka://{brokers}", [topic], group, config=config) as consumer:
        first = consumer.poll(batch, timeout=60)
        with stopwatch(records):
            taken += len(first.values())
            while taken < records:
                taken += len(consumer.poll(batch, timeout=10).values())


@contextmanager
def confluent_producer(
    brokers: str, topic: str, records: int, value: bytes, config: Settings
) -> Iterator[tuple[Any, Callable[[Any, Any], None]]]:
    """A connected producer and its delivery callback; the clock runs until every record of the block is delivered."""
    from confluent_kafka import Producer

    outcomes = [0, 0]

    def delivered(error: Any, _message: Any) -> None:
        outcomes[error is not None] += 1

    producer = Producer({"bootstrap.servers": brokers, **config})
    producer.produce(topic, value, on_delivery=delivered)
    producer.flush(30)
    with stopwatch(records):
        yield producer, delivered
        producer.flush(60)
    assert outcomes == [records + 1, 0], outcomes


def confluent_produce(brokers: str, topic: str, records: int, size: int, batch: int, config: Settings) -> None:
    value = b"x" * size
    with confluent_producer(brokers, topic, records, value, config) as (producer, delivered):
        for sent in range(records):
            while True:
                try:
                    producer.produce(topic, value, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.1)
            if sent % batch == 0:
                producer.poll(0)


def confluent_produce_batch(brokers: str, topic: str, records: int, size: int, batch: int, config: Settings) -> None:
    value = b"x" * size
    with confluent_producer(brokers, topic, records, value, config) as (producer, delivered):
        for _ in range(records // batch):
            wanted = [{"value": value, "callback": delivered} for _ in range(batch)]
            while wanted:
                producer.produce_batch(topic, wanted)
                wanted = [message for message in wanted if "_error" in message]
                for message in wanted:
                    del message["_error"]
                producer.poll(0.1 if wanted else 0)


def confluent_consume(brokers: str, topic: str, records: int, batch: int, config: Settings) -> None:
    from confluent_kafka import Consumer

    consumer = Consumer({"bootstrap.servers": brokers, **config})
    consumer.subscribe([topic])
    messages = []
    while not messages:
        messages = consumer.consume(1, 60)
    taken = len(messages)
    with stopwatch(records):
        while taken < records:
            for message in consumer.consume(batch, 1.0):
                taken += message.value() is not None
    consumer.close()


PRODUCERS: dict[str, Callable[[str, str, int, int, int, Settings], None]] = {
    "rdknotify": rdknotify_produce,
    "confluent produce": confluent_produce,
    "confluent produce_batch": confluent_produce_batch,
}
CONSUMERS: dict[str, Callable[[str, str, int, int, Settings], None]] = {
    "rdknotify": rdknotify_consume,
    "confluent consume": confluent_consume,
}


def main(client: str, role: str, brokers: str, topic: str, records: str, *rest: str) -> None:
    """Run one client; the numbers are as on the command line."""
    numbers = [int(word) for word in rest if "=" not in word]
    config = dict(word.split("=", 1) for word in rest if "=" in word)
    if role == "produce":
        PRODUCERS[client](brokers, topic, int(records), numbers[0], numbers[1], config)
    else:
        CONSUMERS[client](brokers, topic, int(records), numbers[0], config)


if __name__ == "__main__":
    main(*sys.argv[1:])
