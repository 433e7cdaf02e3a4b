"""Which records are handed out next, and up to where a partition is done with. Pure: no clock, no client, no lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

__all__ = ["Collector", "Crew", "Lanes", "Progress"]


class _Placed(Protocol):
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...


_Record = TypeVar("_Record", bound=_Placed)
_Unit = TypeVar("_Unit", bound=Hashable)


class Collector(Generic[_Record]):
    """Gathers records until they are handed out.

    They are ready when ``size`` are there, or the first has waited ``patience`` seconds; without a size, at
    once.
    """

    def __init__(self, size: int | None, patience: float) -> None:
        self._size = size
        self._patience = patience
        self._records: list[_Record] = []
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._records)

    def room(self, most: int) -> int:
        """How many more records to ask for, ``most`` at the most."""
        return most if self._size is None else max(1, min(most, self._size - len(self._records)))

    def wait(self, longest: float, now: float) -> float:
        """How long to wait for more, ``longest`` at the most."""
        return max(0.0, min(longest, self._since + self._patience - now)) if self._records else longest

    def add(self, records: Sequence[_Record], now: float) -> None:
        if records and not self._records:
            self._since = now
        self._records.extend(records)

    def take(self, now: float) -> list[_Record]:
        """The next records to hand out, at most ``size``; none while there is something to wait for."""
        size = self._size or len(self._records)
        if len(self._records) < size and now < self._since + self._patience:
            return []
        taken, self._records = self._records[:size], self._records[size:]
        return taken

    def put_back(self, records: Sequence[_Record]) -> None:
        """These were taken and could not be handed out: they are the next again."""
        self._records[:0] = records

    def forget(self, partitions: Collection[tuple[str, int]]) -> None:
        """Drop the records of partitions that were taken away."""
        self._records = [record for record in self._records if (record.topic, record.partition) not in partitions]

    def clear(self) -> None:
        self._records = []


class Lanes(Generic[_Unit]):
    """Keeps the order of each key where units are worked on side by side.

    A unit may go when none that entered before it, and has not left, has one of its keys. One without keys may go at
    once.
    """

    def __init__(self) -> None:
        self._lanes: dict[Hashable, deque[_Unit]] = {}
        self._keys: dict[_Unit, Collection[Hashable]] = {}
        self._behind: dict[_Unit, int] = {}

    @property
    def waiting(self) -> list[_Unit]:
        """Those that may not go yet, in order."""
        return list(self._behind)

    def enter(self, unit: _Unit, keys: Collection[Hashable]) -> bool:
        """True if the unit may go; ``keys`` has each of them once."""
        if not keys:
            return True
        self._keys[unit] = keys
        behind = 0
        for key in keys:
            lane = self._lanes.setdefault(key, deque())
            behind += bool(lane)
            lane.append(unit)
        if behind:
            self._behind[unit] = behind
        return not behind

    def leave(self, unit: _Unit) -> list[_Unit]:
        """The unit is done with; those that may go now, in the order in which they entered."""
        free: list[_Unit] = []
        for key in self._keys.pop(unit, ()):
            lane = self._lanes[key]
            lane.popleft()
            if not lane:
                del self._lanes[key]
                continue
            first = lane[0]
            self._behind[first] -= 1
            if not self._behind[first]:
                del self._behind[first]
                free.append(first)
        return free

    def drop_waiting(self) -> list[_Unit]:
        """Take out all that may not go yet; returns them."""
        dropped = self.waiting
        gone = set(dropped)
        for unit in dropped:
            for key in self._keys.pop(unit):
                lane = self._lanes.get(key)
                if lane is not None:
                    kept = deque(each for each in lane if each not in gone)
                    if kept:
                        self._lanes[key] = kept
                    else:
                        del self._lanes[key]
        self._behind.clear()
        return dropped


class Progress:
    """What of one partition is handed out, and up to where all of it is done with."""

    __slots__ = ("_done", "_open", "next")

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._done: set[int] = set()
        self.next: int | None = None
        """The offset after the last record before which nothing is open; None while there is none."""

    def __bool__(self) -> bool:
        """Whether anything is open."""
        return bool(self._open)

    def enter(self, offsets: Iterable[int]) -> None:
        """These are handed out; in the order of the partition."""
        self._open.extend(offsets)

    def done(self, offset: int) -> None:
        opened, done = self._open, self._done
        if opened[0] != offset:
            done.add(offset)
            return
        opened.popleft()
        while opened and opened[0] in done:
            offset = opened.popleft()
            done.remove(offset)
        self.next = offset + 1


class Crew(Generic[_Unit]):
    """How many units are worked on side by side: no more than help, up to ``workers``.

    Threads that share an interpreter only hinder each other while it is busy, so that one who is quick goes on alone:
    :meth:`go_on` is the next unit for who has ended one. Who is slow gets help, see :meth:`call`.
    """

    STALLED = 0.002
    """Seconds without progress after which one who is at work is slow, if the process has time to spare."""
    PATIENCE = 0.01
    """Seconds that a unit waits for a worker, if the process has time to spare."""
    STUCK = 0.02
    """Seconds without progress after which there is help in any case."""
    BUSY = 0.8
    """The share of a processor from which on the process has no time to spare."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._ready: deque[tuple[_Unit, float]] = deque()
        self._working = 0
        self._progress = 0
        self._seen = (-1, 0.0, 0.0)

    def __len__(self) -> int:
        """How many units wait for a worker."""
        return len(self._ready)

    def enter(self, units: Iterable[_Unit], now: float) -> None:
        """These may be worked on."""
        self._ready.extend((unit, now) for unit in units)

    def go_on(self) -> _Unit | None:
        """A worker has ended a unit: its next one. None: it has none, and works no longer."""
        self._progress += 1
        if self._ready:
            return self._ready.popleft()[0]
        self._working -= 1
        return None

    def call(self, now: float, processor: float) -> list[_Unit]:
        """Units for workers to begin with, now; ``processor``: the seconds that the process has used so far."""
        if not self._ready or self._working >= self._workers:
            return []
        wanted = 1
        if self._working:
            wanted = 3 * self._working if self._is_slow(now, processor) else 0
        if wanted or (self._progress != self._seen[0] and now - self._seen[1] >= self.STALLED):
            self._seen = (self._progress, now, processor)
        count = min(wanted, self._workers - self._working, len(self._ready))
        self._working += count
        return [self._ready.popleft()[0] for _ in range(count)]

    def _is_slow(self, now: float, processor: float) -> bool:
        progress, then, used = self._seen
        if now - then < self.STALLED:
            return False
        stalled = progress == self._progress
        has_time = processor - used < self.BUSY * (now - then)
        waits = now - self._ready[0][1] >= self.PATIENCE
        return (has_time and (stalled or waits)) or (stalled and now - then >= self.STUCK)

    @property
    def waiting(self) -> list[_Unit]:
        """Those that wait for a worker, in order."""
        return [unit for unit, _ in self._ready]

    def drop(self, units: Collection[_Unit]) -> None:
        """Take out these, if they wait."""
        self._ready = deque(entry for entry in self._ready if entry[0] not in units)
