"""Persisters over librdkafka's in-process Kafka: a sink that fails when told to, and what to send and to look for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rdknotify.persister import Persister
from rdknotify.producer import Producer
from rdknotify.sinks import SinkError, Span
from rdknotify.sinks.schema import RAW
from rdknotify.sinks.sqlite import SQLiteSink
from rdknotify.testing import MockCluster
from rdknotify.topics import TopicPartition
from support.database import ask

TOPIC = "metrics"
SOON = 15.0
"""Seconds after which something that should happen counts as missing."""

QUICK = {"fetch.wait.max.ms": 20, "session.timeout.ms": 2000, "heartbeat.interval.ms": 100}
"""The mock answers an empty fetch only at the end of its time, and a rebalance takes it as long as a session."""


class FlakySink(SQLiteSink):
    """A database that can be taken away, and notes what it was asked."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.down = False
        self.refused = 0
        self.stores: list[tuple[int, Mapping[TopicPartition, Span]]] = []

    def restore(self, group: str, partitions: Any) -> Mapping[TopicPartition, int]:
        self._fail()
        return super().restore(group, partitions)

    def store(self, group: str, rows: Sequence[tuple[Any, ...]], spans: Mapping[TopicPartition, Span]) -> int:
        self._fail()
        new = super().store(group, rows, spans)
        self.stores.append((len(rows), dict(spans)))
        return new

    def _fail(self) -> None:
        if self.down:
            self.refused += 1
            raise SinkError("the database is away")


class SlowSink(FlakySink):
    """A database that answers only while its gate is open."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = 0
        self.restores = 0

    def restore(self, group: str, partitions: Any) -> Mapping[TopicPartition, int]:
        self.restores += 1
        self._pass()
        return super().restore(group, partitions)

    def store(self, group: str, rows: Sequence[tuple[Any, ...]], spans: Mapping[TopicPartition, Span]) -> int:
        self._pass()
        return super().store(group, rows, spans)

    def _pass(self) -> None:
        self.waiting += 1
        assert self.gate.wait(4 * SOON)
        self.waiting -= 1


def persister(cluster: MockCluster, sink: SQLiteSink, **options: Any) -> Persister:
    settings = {"group": "g", "schema": RAW, "max_wait": 0.05, "config": QUICK, **options}
    return Persister(cluster.url, settings.pop("topics", [TOPIC]), sink=sink, **settings)


def send(producer: Producer, values: Sequence[str], topic: str = TOPIC) -> None:
    producer.send_batch(topic, list(values), keys=list(values)).result(SOON).raise_for_failures()


def stored(path: Path) -> list[str]:
    return sorted(value.decode() for (value,) in ask(path, "SELECT value FROM notifications"))


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:04}" for number in range(count)]


def seconds_until_interrupted(running: Persister, interrupt: Callable[[], object]) -> float:
    """How long ``run()`` takes until KeyboardInterrupt ends it; ``interrupt`` sees to that in a thread beside."""
    thread = threading.Thread(target=interrupt)
    thread.start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        running.run()
    thread.join()
    return time.monotonic() - begun
