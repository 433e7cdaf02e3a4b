"""Notifications through rdknotify and through oslo.messaging; and records one by one, each waited for or not.

A job's topic is the one on the log, which ends with ``.info``; ``more["payload"]`` is a name of :data:`EVENTS`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

from benchmarks.clients.base import Job, roles, stopwatch
from benchmarks.oslo.client import PAYLOAD, connect
from benchmarks.setting import LINGER_MS, SIZE, librdkafka_producing
from rdknotify import Delivery, Notifier, Producer
from rdknotify.testing.data import nova_notifications

ENDING = ".info"
PUBLISHER = "compute.node1"
TIMEOUT = 60.0
"""Seconds that the last outcome may take."""

EVENTS: dict[str, list[tuple[str, Any]]] = {
    "237 bytes": [("compute.instance.update", PAYLOAD)],
    "nova": [(nova["event_type"], nova["payload"]) for nova in nova_notifications()],
    "200 bytes": [("compute.instance.update", "x" * SIZE)],
}
"""Event types and payloads, sent over and over; the last has what the Kafka paper sent."""
SMALLEST: list[tuple[str, Any]] = [("", {})]
"""Where no payload is named: 266 bytes on the log, as near to everybody's 200 as a notification comes."""


def events(job: Job) -> Iterator[tuple[str, Any]]:
    """What is sent: one to warm up, then the job's records."""
    return islice(cycle(EVENTS.get(job.more.get("payload", ""), SMALLEST)), 1 + job.records)


def _notifier(job: Job) -> Notifier:
    topic = job.topic.removesuffix(ENDING)
    config = librdkafka_producing(job.compression)
    return Notifier(f"kafka://{job.brokers}", PUBLISHER, [topic], config=config, queue_timeout=TIMEOUT)


def info(job: Job) -> None:
    """`Notifier.info` one by one; the flush raises what was not delivered."""
    with _notifier(job) as notifier:
        source = events(job)
        notifier.info({}, *next(source))
        notifier.flush(TIMEOUT)
        with stopwatch(job):
            for event_type, payload in source:
                notifier.info({}, event_type, payload)
            notifier.flush(TIMEOUT)


def notify_batch(job: Job) -> None:
    """`notify_batch` with as many as a batch has."""
    with _notifier(job) as notifier:
        source = events(job)
        notifier.notify_batch("info", [next(source)]).result(TIMEOUT).raise_for_failures()
        with stopwatch(job):
            while bulk := list(islice(source, job.batch)):
                notifier.notify_batch("info", bulk)
            notifier.flush(TIMEOUT)


def oslo(job: Job) -> None:
    """oslo.messaging's notifier over its Kafka driver, which asks for no delivery reports; told what all are told."""
    _oslo(job, f"?producer_batch_timeout={LINGER_MS / 1000}&compression_codec={job.compression}")


def oslo_with_defaults(job: Job) -> None:
    """The same as it comes: it does not linger."""
    _oslo(job, "")


def _oslo(job: Job, options: str) -> None:
    import oslo_messaging

    transport = connect("kafka", f"{job.brokers}/{options}")
    topic = job.topic.removesuffix(ENDING)
    notifier = oslo_messaging.Notifier(transport, PUBLISHER, driver="messagingv2", topics=[topic])
    source = events(job)
    notifier.info({}, *next(source))
    transport._driver.pconn.producer.flush(TIMEOUT)  # connected when the clock starts, as the others are
    with stopwatch(job):
        for event_type, payload in source:
            notifier.info({}, event_type, payload)
        transport.cleanup()  # flushes


def _producer(job: Job) -> Producer:
    """Lingers as all do, or ``more["linger_ms"]``; connected."""
    linger = {"linger.ms": str(job.more.get("linger_ms", LINGER_MS))}
    producer = Producer(f"kafka://{job.brokers}", config=librdkafka_producing(job.compression) | linger)
    producer.send(job.topic, job.value).result(TIMEOUT).raise_for_failures()
    return producer


def send(job: Job) -> None:
    """`send` one by one; every outcome is looked at once it is there."""
    value = job.value
    pending: deque[Delivery] = deque()
    delivered = 0
    with _producer(job) as producer, stopwatch(job):
        for _ in range(job.records):
            pending.append(producer.send(job.topic, value, timeout=TIMEOUT))
            while pending and pending[0].done():
                delivered += pending.popleft().result().delivered
        delivered += sum(delivery.result(TIMEOUT).delivered for delivery in pending)
    assert delivered == job.records, f"{delivered} of {job.records} delivered"


def send_and_wait(job: Job) -> None:
    """`send` one by one, each waited for before the next."""
    value = job.value
    with _producer(job) as producer, stopwatch(job):
        delivered = sum(producer.send(job.topic, value).result(TIMEOUT).delivered for _ in range(job.records))
    assert delivered == job.records, f"{delivered} of {job.records} delivered"


ROLES = roles(
    produce={
        "rdknotify info": info,
        "rdknotify notify_batch": notify_batch,
        "oslo.messaging info": oslo,
        "oslo.messaging kafka": oslo,
        "oslo.messaging info, its defaults": oslo_with_defaults,
        "rdknotify send": send,
        "rdknotify send, result each": send_and_wait,
    }
)
