"""The three measures: how fast records go in, how fast they come out, how long one takes."""

from __future__ import annotations

import math
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rdknotify._rdknotify import Delivery
from rdknotify.errors import KafkaError, QueueFull, RdNotifyError
from rdknotify.producer import Producer
from rdknotify.tail import Tail

__all__ = ["Failed", "Latency", "Throughput", "consume", "latency", "produce"]

WINDOW = 100
"""Batches in flight at most."""
GRACE = 5.0
"""Seconds that what is in flight at the end still has."""
RATE = 200
"""Records a second whose latency is measured: few, so that none waits for another."""
_STAMP = struct.Struct(">Q")
_POLL = 0.1


class Failed(RdNotifyError):
    """There is no figure; the text says why."""


@dataclass(frozen=True)
class Throughput:
    """Records that went one way, in so many seconds, for so much processor time of this process."""

    records: int
    size: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.records / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, float]:
        return {
            "records": self.records,
            "seconds": round(self.seconds, 3),
            "records_per_second": round(self.rate, 1),
            "megabytes_per_second": round(self.rate * self.size / 1e6, 3),
            "cpu_microseconds_per_record": round(self.cpu / max(self.records, 1) * 1e6, 3),
        }


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the call that sends to the poll that reads."""

    records: int
    p50: float
    p99: float
    longest: float

    def as_json(self) -> dict[str, float]:
        return {"records": self.records, **{name: round(getattr(self, name), 3) for name in ("p50", "p99", "longest")}}


class _Clock:
    def __init__(self) -> None:
        self.begun, self._cpu = time.monotonic(), time.process_time()

    def figures(self, records: int, size: int) -> Throughput:
        return Throughput(records, size, time.monotonic() - self.begun, time.process_time() - self._cpu)


def produce(
    producer: Producer, topic: str, size: int, batch: int, seconds: float, most: float, look: Callable[[], object]
) -> tuple[Throughput, int]:
    """Send batches for so long, at most that many records; the figures, and how many were not delivered.

    Raises Failed where none was.
    """
    values = [b"x" * size] * batch
    pending: deque[Delivery] = deque()
    delivered = undelivered = sent = 0
    error: KafkaError | None = None

    def settle(delivery: Delivery, timeout: float) -> None:
        nonlocal delivered, undelivered, error
        if not delivery.wait(timeout):
            producer.purge()
        report = delivery.result(1.0)
        delivered += report.delivered
        undelivered += len(report.failures)
        error = report.failures[0].error if report.failures else error

    clock = _Clock()
    while time.monotonic() - clock.begun < seconds and sent < most:
        try:
            pending.append(producer.send_batch(topic, values, timeout=GRACE))
        except QueueFull as full:
            pending.append(full.delivery)
            break
        sent += batch
        while pending and (len(pending) > WINDOW or pending[0].done()):
            settle(pending.popleft(), GRACE)
        look()
    deadline = time.monotonic() + GRACE
    while pending:
        settle(pending.popleft(), max(0.0, deadline - time.monotonic()))
    if not delivered:
        raise Failed(f"nothing was delivered: {error or 'no answer in time'}; see `rdknotify doctor`")
    return clock.figures(delivered, size), undelivered


def consume(tail: Tail, records: int, size: int, batch: int, seconds: float, look: Callable[[], object]) -> Throughput:
    """Read so many records, or for so long. The clock starts with the first. Raises Failed where none comes."""
    taken = len(tail.poll(batch, timeout=GRACE).values())
    if not taken:
        raise Failed("nothing could be read back; see `rdknotify doctor`")
    clock, first = _Clock(), taken
    while taken < records and time.monotonic() - clock.begun < seconds:
        found = len(tail.poll(batch, timeout=GRACE).values())
        if not found:
            break
        taken += found
        look()
    return clock.figures(taken - first or taken, size)


def latency(
    producer: Producer, tail: Tail, topic: str, size: int, seconds: float, look: Callable[[], object]
) -> Latency:
    """Send single records at a steady pace, from a thread of its own, and read them here."""
    stop, sent = threading.Event(), [0]
    padding = b"x" * max(0, size - _STAMP.size)

    def send() -> None:
        begun = time.monotonic()
        while not stop.is_set():
            due = begun + sent[0] / RATE
            if stop.wait(max(0.0, due - time.monotonic())):
                return
            try:
                producer.send(topic, _STAMP.pack(time.monotonic_ns()) + padding)
            except RdNotifyError:  # what is missing shows in the figures
                return
            sent[0] += 1

    thread = threading.Thread(target=send, daemon=True)
    took: list[float] = []
    thread.start()
    try:
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            took += _arrived(tail, min(_POLL, end - now))
            look()
        stop.set()
        thread.join(GRACE)
        while len(took) < sent[0] and (late := _arrived(tail, GRACE / 5)):
            took += late
    finally:
        stop.set()
    if not took:
        raise Failed("no record came back in time; see `rdknotify doctor`")
    took.sort()
    return Latency(len(took), _quantile(took, 0.5), _quantile(took, 0.99), took[-1])


def _arrived(tail: Tail, timeout: float) -> list[float]:
    """Milliseconds that each record took which came within this time."""
    values = tail.poll(1000, timeout=timeout).values()
    now = time.monotonic_ns()
    return [(now - _STAMP.unpack_from(value)[0]) / 1e6 for value in values if value and len(value) >= _STAMP.size]


def _quantile(ordered: Sequence[float], quantile: float) -> float:
    return ordered[math.ceil(quantile * len(ordered)) - 1]
