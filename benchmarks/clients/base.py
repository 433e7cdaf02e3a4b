"""What a client gets and what it prints, the same for every client and role."""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.setting import BATCH, PARTITIONS, SIZE

SOLO_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """What to do; a role says which of it matters."""

    brokers: str
    topic: str
    records: int
    size: int = SIZE
    batch: int = BATCH
    partitions: int = PARTITIONS
    compression: str = "none"
    group: str = ""
    rate: int = 0
    """Records a second; 0: as fast as it goes."""
    busy: bool = False
    """Beside a thread that counts in pure Python."""
    more: dict[str, Any] = field(default_factory=dict)
    """What only one measure needs."""

    @property
    def topics(self) -> list[str]:
        """Where ``more`` names several they are taken in turn, batch by batch."""
        return self.more.get("topics") or [self.topic]

    @property
    def value(self) -> bytes:
        return b"x" * self.size


Client = Callable[[Job], None]
Figures = dict[str, Any]
"""At least ``records``, ``seconds``, ``cpu`` (seconds of the process meanwhile) and ``peak`` (bytes of memory at most).

A producing client also says ``warming``: how many records it sent before the clock started: one to each topic."""


def tell(figures: Figures) -> None:
    """The one line that a client prints, at its end."""
    json.dump(figures, sys.stdout)
    print(flush=True)


def meet(word: str) -> str:
    """Say where we are, and wait for what the harness answers."""
    print(word, flush=True)
    return sys.stdin.readline().strip()


@contextmanager
def stopwatch(job: Job) -> Iterator[Figures]:
    """Print what the block took when it ends, and whatever it puts into the figures meanwhile.

    With ``job.busy``, a thread counts during the block; ``kept`` is its speed then, of its speed alone just before.
    """
    figures: Figures = {"records": job.records, "warming": len(job.topics)}
    counter = Counter() if job.busy else None
    wall, cpu = time.perf_counter(), time.process_time()
    yield figures
    figures["seconds"], figures["cpu"] = time.perf_counter() - wall, time.process_time() - cpu
    if counter:
        figures.update(counter.stop())
        figures["cpu"] -= figures.pop("counter_cpu")
    figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tell(figures)


class Counter:
    """A thread that counts in pure Python, first alone for a second, then beside whatever goes on."""

    def __init__(self) -> None:
        self._running = True
        self._count = 0
        self._cpu = 0.0
        self._thread = threading.Thread(target=self._run, name="counter")
        self._thread.start()
        self._begun = (self._count, time.perf_counter())
        time.sleep(SOLO_SECONDS)
        now = (self._count, time.perf_counter())
        self._solo = _speed(self._begun, now)
        self._begun = now
        self._cpu_begun = self._cpu

    def _run(self) -> None:
        while self._running:
            for _ in range(1000):
                self._count += 1
            self._cpu = time.thread_time()

    def stop(self) -> Figures:
        ended = (self._count, time.perf_counter())
        cpu = self._cpu - self._cpu_begun
        self._running = False
        self._thread.join()
        return {"kept": _speed(self._begun, ended) / self._solo, "counter_cpu": cpu}


def _speed(begun: tuple[int, float], ended: tuple[int, float]) -> float:
    return (ended[0] - begun[0]) / (ended[1] - begun[1])


def roles(**named: dict[str, Client]) -> dict[str, dict[str, Client]]:
    """``produce={client name: function}, consume={...}``: the table that each module ends with."""
    return named
