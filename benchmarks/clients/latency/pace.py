"""What both ends of all pairs share: when a record is due, what is written into it, what is noted of its arrival."""

from __future__ import annotations

import struct
import sys
import threading
import time
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from benchmarks.clients.base import Job, peak, tell

SECOND = 1_000_000_000
SHORTEST_SLEEP = 0.001
_MISSING = -1

Stamp = tuple[int, int]
"""When a record was to be sent (CLOCK_MONOTONIC, ns: the same for all processes), and its number in the run."""
_STAMP = struct.Struct("=qq")


def value(stamp: Stamp, size: int) -> bytes:
    return _STAMP.pack(*stamp).ljust(size, b"x")


def unstamp(value: bytes | None) -> Stamp:
    assert value is not None
    scheduled, number = _STAMP.unpack_from(value)
    return scheduled, number


class Phase(NamedTuple):
    rate: int
    records: int
    first: int
    """The number of its first record."""


def phases(job: Job) -> Iterator[Phase]:
    first = 0
    for rate, records in job.more["phases"]:
        yield Phase(rate, records, first)
        first += records


class Pace:
    """The open loop of one phase: a record is due at its time, however the sender fares.

    From the scheduled time, not the actual one, its delay is counted: who falls behind is charged for it, which is the
    correction for coordinated omission.
    """

    def __init__(self, phase: Phase) -> None:
        self._phase = phase
        self._sent = 0
        self._begun = time.monotonic_ns()
        self.behind = 0.0
        """Seconds between when the last record was to be sent and when it was."""

    @property
    def over(self) -> bool:
        return self._sent == self._phase.records

    def due(self) -> list[Stamp]:
        """All that is due and was not before."""
        rate, records, first = self._phase
        until = min((time.monotonic_ns() - self._begun) * rate // SECOND + 1, records)
        stamps = [(self._scheduled(number), first + number) for number in range(self._sent, until)]
        self._sent = until
        return stamps

    def wait(self) -> float:
        """Seconds to sleep, once what was due is sent, until more is: a millisecond at least."""
        now = time.monotonic_ns()
        self.behind = (now - self._scheduled(self._sent - 1)) / SECOND
        return 0.0 if self.over else max(SHORTEST_SLEEP, (self._scheduled(self._sent) - now) / SECOND)

    def _scheduled(self, number: int) -> int:
        return self._begun + number * SECOND // self._phase.rate


def paces(job: Job) -> Iterator[Pace]:
    """The loops of all phases, each when it is asked for on stdin; when the next is, this one has to be flushed."""
    for phase in phases(job):
        if phase.first:
            sys.stdin.readline()
        cpu = time.process_time()
        pace = Pace(phase)
        yield pace
        tell({"sender_cpu": time.process_time() - cpu, "behind": pace.behind})


class Arrivals:
    """Which records came, and after how long; tells the figures of a phase with its last record. Thread-safe.

    ``dropped`` is how many of the first phase, which warms up, do not come.
    """

    def __init__(self, job: Job, dropped: int = 0) -> None:
        self.complete = threading.Event()
        self._lock = threading.Lock()
        self._delays = array("q", [_MISSING]) * job.records
        self._twice = 0
        self._phases = phases(job)
        self._begin(next(self._phases))
        self._missing -= dropped

    def take(self, stamps: Iterable[Stamp]) -> None:
        """The receiver's code holds the values of these records now."""
        now = time.monotonic_ns()
        with self._lock:
            delays = self._delays
            for scheduled, number in stamps:
                if delays[number] == _MISSING:
                    self._missing -= 1
                else:
                    self._twice += 1
                delays[number] = now - scheduled
            if not self._missing and not self.complete.is_set():
                self._end((now - scheduled) / SECOND + (number - self._phase.first) / self._phase.rate)

    def _begin(self, phase: Phase) -> None:
        self._phase = phase
        self._missing = phase.records
        self._cpu = time.process_time()

    def _end(self, seconds: float) -> None:
        cpu = time.process_time() - self._cpu
        first, records = self._phase.first, self._phase.records
        tell(
            {
                "records": records,
                "seconds": seconds,
                "cpu": cpu,
                "peak": peak(),
                "twice": self._twice,
                "delays": [-(-delay // 1000) for delay in self._delays[first : first + records]],
            }
        )
        following = next(self._phases, None)
        if following is None:
            self._missing = 0
            self.complete.set()
        else:
            self._begin(following)
