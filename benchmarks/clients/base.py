"""What a client gets and what it prints, the same for every client and role."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.setting import BATCH, PARTITIONS, SIZE

SOLO_MOMENTS, SOLO_MOMENT = 5, 0.1
"""How often, and for how many seconds, the counting thread is looked at while it is alone."""


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
    """Beside a thread that counts in pure Python; ``more["solo"]`` is its speed before there was a client."""
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


def pauses(job: Job) -> Iterator[float]:
    """Once for each batch: how many seconds to sleep before it; 0 when it is due, as all are without ``job.rate``."""
    begun = time.perf_counter()
    for turn in range(job.records // job.batch):
        yield max(0.0, begun + turn * job.batch / job.rate - time.perf_counter()) if job.rate else 0.0


def turns(job: Job) -> Iterator[str]:
    """Once for each batch, when it is due: the topic whose turn it is."""
    for topic, pause in zip(cycle(job.topics), pauses(job), strict=False):
        if pause:  # even a sleep of no length gives the GIL away
            time.sleep(pause)
        yield topic


def peak() -> int:
    """Bytes of memory at most until now; ``ru_maxrss`` would begin with those of the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextmanager
def stopwatch(job: Job) -> Iterator[Figures]:
    """Print what the block took when it ends, and whatever it puts into the figures meanwhile.

    With ``job.rate``, ``behind`` is how many seconds later than scheduled the block ended. With ``job.busy``, a thread
    counts during the block: ``kept`` is its speed then, of its speed alone, and ``starved`` the part of the time for
    which it had no CPU, because the broker or another had it. Its CPU is not the client's.
    """
    figures: Figures = {"records": job.records, "warming": len(job.topics)}
    counter = Counter() if job.busy else None
    wall, cpu = time.perf_counter(), time.process_time()
    yield figures
    figures["seconds"], figures["cpu"] = time.perf_counter() - wall, time.process_time() - cpu
    if counter:
        speed, counter_cpu, figures["starved"] = counter.stop()
        figures["kept"] = speed / job.more["solo"]
        figures["cpu"] -= counter_cpu
    if job.rate:
        figures["behind"] = max(0.0, figures["seconds"] - job.records / job.rate)
    figures["peak"] = peak()
    tell(figures)


class Counter:
    """A thread that counts in pure Python from now until :meth:`stop`."""

    def __init__(self) -> None:
        self._running = True
        self._count = 0
        self._thread = threading.Thread(target=self._run, name="counter", daemon=True)
        self._thread.start()
        assert self._thread.ident
        self._clock = time.pthread_getcpuclockid(self._thread.ident)
        self._starved = self._without_cpu()  # reading a file gives the GIL away: first here, last at the end
        self._begun = self.now()

    def _run(self) -> None:
        while self._running:
            for _ in range(1000):
                self._count += 1

    def now(self) -> tuple[int, float, float]:
        """Counts, seconds, CPU seconds of the thread."""
        return self._count, time.perf_counter(), time.clock_gettime(self._clock)

    def _without_cpu(self) -> float:
        """Seconds in which the thread could run but others had the CPUs; 0 where the kernel does not say."""
        try:
            told = Path(f"/proc/self/task/{self._thread.native_id}/schedstat").read_text()
        except FileNotFoundError:
            return 0.0
        return int(told.split()[1]) / 1e9

    def stop(self) -> tuple[float, float, float]:
        """Counts a second, the thread's CPU seconds, and for which part of the time others had its CPU."""
        count, wall, cpu = (now - begun for now, begun in zip(self.now(), self._begun, strict=True))
        starved = (self._without_cpu() - self._starved) / wall
        self._running = False
        self._thread.join()
        return count / wall, cpu, starved


def solo_speed() -> float:
    """Counts a second of a :class:`Counter` that has the process to itself: the median of some moments."""
    counter = Counter()
    seen = [counter.now()]
    for _ in range(SOLO_MOMENTS):
        time.sleep(SOLO_MOMENT)
        seen.append(counter.now())
    counter.stop()
    return median((after[0] - before[0]) / (after[1] - before[1]) for before, after in pairwise(seen))


def roles(**named: dict[str, Client]) -> dict[str, dict[str, Client]]:
    """``produce={client name: function}, consume={...}``: the table that each module ends with."""
    return named
