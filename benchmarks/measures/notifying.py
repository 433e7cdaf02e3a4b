"""Notifications one by one beside oslo.messaging (P4), and what waiting for each record costs (P5)."""

from __future__ import annotations

import uuid
from collections import Counter
from functools import partial

from benchmarks.clients.base import Figures, Job
from benchmarks.clients.notifying import ENDING, EVENTS, events
from benchmarks.harness import Failed, Stage
from benchmarks.setting import LINGER_MS
from rdknotify import Consumer
from rdknotify.envelope import decode

CLIENTS = {
    "rdknotify info": 100_000,
    "oslo.messaging info": 20_000,
    "oslo.messaging info, its defaults": 15_000,
    "rdknotify notify_batch": 150_000,
}
BULK_SIZE = 50
"""As the Kafka paper's batches."""

ASYNCHRONOUS, SYNCHRONOUS = "rdknotify send", "rdknotify send, result each"
SENT = 200_000
WAITED_FOR = {0: 2_000, LINGER_MS: 200}
"""By linger in milliseconds: to whoever waits for each record it only does harm, but it is what the others have."""


def measure(stage: Stage) -> None:
    for payload in EVENTS:
        clients = {
            client: partial(_notify, stage, client, stage.plan.records(records), payload)
            for client, records in CLIENTS.items()
        }
        stage.alternate("notify", payload, clients)
    senders = {ASYNCHRONOUS: partial(_send, stage, ASYNCHRONOUS, stage.plan.records(SENT), LINGER_MS)}
    for linger_ms, records in WAITED_FOR.items():
        name = f"{SYNCHRONOUS}, linger {linger_ms} ms"
        senders[name] = partial(_send, stage, SYNCHRONOUS, stage.plan.records(records, 100), linger_ms)
    stage.alternate("synchronous", "", senders)


def _notify(stage: Stage, client: str, records: int, payload: str) -> Figures:
    with stage.topic(ending=ENDING) as topic:
        job = stage.job(topic, records, batch=BULK_SIZE, more={"payload": payload})
        figures = stage.produce(client, job)
        _check(stage, client, job)
    return figures


def _check(stage: Stage, client: str, job: Job) -> None:
    """Every notification that was sent is there to be read. Raises Failed."""
    sent = Counter(event_type for event_type, _ in events(job))
    ids, arrived = set(), Counter[str]()
    with Consumer(stage.kafka.url, [job.topic], f"benchmark-{uuid.uuid4().hex[:8]}") as consumer:
        while arrived.total() < sent.total() and (batch := consumer.poll(10_000, timeout=10)):
            for value in batch.values():
                notification = decode(value or b"")
                ids.add(notification.message_id)
                arrived[notification.event_type] += 1
    if arrived != sent or len(ids) != sent.total():
        raise Failed(f"{client}: {len(ids)} different notifications of {sent.total()} were read back")


def _send(stage: Stage, client: str, records: int, linger_ms: int) -> Figures:
    with stage.topic() as topic:
        return stage.produce(client, stage.job(topic, records, more={"linger_ms": linger_ms}))
