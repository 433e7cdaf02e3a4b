"""Filling a producer's queue while no broker takes anything, going on trying, and delivering it all in the end.

``job.more``: ``hold``, seconds to go on trying; ``linger``, where the broker cannot be stopped: nothing is sent before
it is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import confluent_kafka
import psutil

import rdknotify
from benchmarks.clients.base import Figures, Job, meet, peak, roles, tell
from benchmarks.setting import librdkafka_producing

PARTS = 10
"""Of the fill: what a record costs is told for each."""
TRY_SECONDS = 0.05
"""How long each further record waits for room."""

Send = Callable[[], int]
"""Sends a batch, or less; returns how many records were taken."""


def rdknotify_holds(job: Job) -> None:
    deliveries: list[rdknotify.Delivery] = []
    values = [job.value] * job.batch

    def send() -> int:
        deliveries.append(producer.send_batch(job.topic, values, timeout=1))
        return job.batch

    def send_one() -> int:
        try:
            deliveries.append(producer.send(job.topic, values[0], timeout=TRY_SECONDS))
        except rdknotify.QueueFull:
            return 0
        return 1

    with rdknotify.Producer(f"kafka://{job.brokers}", config=_config(job)) as producer:
        producer.send(job.topic, values[0])
        producer.flush(30)
        figures = _filled(job, send, send_one)
        producer.flush(120)
        reports = [delivery.result(0) for delivery in deliveries]
        delivered = sum(report.delivered for report in reports)
        _tell(figures, delivered, sum(report.total for report in reports) - delivered)


def confluent_holds(job: Job) -> None:
    """`produce` with a callback."""
    outcomes = [0, 0]
    value = job.value

    def delivered(error: Any, _message: Any) -> None:
        outcomes[error is not None] += 1

    def send() -> int:
        for _ in range(job.batch):
            producer.produce(job.topic, value, on_delivery=delivered)
        producer.poll(0)
        return job.batch

    def send_one() -> int:
        try:
            producer.produce(job.topic, value, on_delivery=delivered)
        except BufferError:
            producer.poll(TRY_SECONDS)
            return 0
        return 1

    producer = confluent_kafka.Producer({"bootstrap.servers": job.brokers, **_config(job)})
    producer.produce(job.topic, value)
    producer.flush(30)
    figures = _filled(job, send, send_one)
    producer.flush(120)
    _tell(figures, *outcomes)


def _config(job: Job) -> dict[str, str]:
    config = librdkafka_producing(job.compression) | {
        "queue.buffering.max.messages": str(job.records),
        "message.timeout.ms": "600000",
    }
    if job.more.get("linger"):
        config |= {"linger.ms": "300000", "batch.num.messages": "1000000", "batch.size": str(2**31 - 1)}
    return config


def _filled(job: Job, send: Send, send_one: Send) -> Figures:
    """What filling the queue cost and how much memory it took, then and after going on for a while."""
    before = _memory()
    meet("connected")
    wall, cpu = time.perf_counter(), time.process_time()
    parts = list(_parts(job, send))
    figures: Figures = {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "parts": parts,
        "before": before,
        "after_fill": _memory(),
    }
    further, refused, samples = 0, 0, []
    end = time.monotonic() + job.more.get("hold", 0)
    sampled = time.monotonic()
    while (now := time.monotonic()) < end:
        taken = send_one()
        further += taken
        refused += not taken
        if now - sampled >= 1:
            samples.append(_memory())
            sampled = now
    figures["after_hold"] = _memory()
    figures |= {"records": job.records + further, "further": further, "refused": refused, "samples": samples}
    meet("held")
    figures["delivering"] = {"records": figures["records"], "begun": (time.perf_counter(), time.process_time())}
    return figures


def _parts(job: Job, send: Send) -> Iterator[Figures]:
    for number in range(PARTS):
        wall, cpu = time.perf_counter(), time.process_time()
        sent = 0
        while sent < job.records // PARTS:
            sent += send()
        yield {
            "at": (number + 1) * sent,
            "records": sent,
            "seconds": time.perf_counter() - wall,
            "cpu": time.process_time() - cpu,
        }


def _memory() -> int:
    return int(psutil.Process().memory_info().rss)


def _tell(figures: Figures, delivered: int, failed: int) -> None:
    wall, cpu = figures["delivering"].pop("begun")
    figures["delivering"] |= {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    tell({**figures, "warming": 1, "delivered": delivered, "failed": failed, "peak": peak()})


ROLES = roles(hold={"rdknotify": rdknotify_holds, "confluent produce": confluent_holds})
