"""Which faults happen when: drawn from a seed, in lanes, so that what must not overlap does not."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rdknotify.testing import LocalPostgres
from rdknotify.testing import checker as histories
from rdknotify.testing.faults import Fault, Member
from reliability.chaos.setting import WORKLOADS

NODES = (1, 2, 3)


@dataclass(frozen=True)
class Planned:
    """A fault that begins so many seconds after the run, or when its lane is free, and lasts ``seconds``."""

    at: float
    lane: str
    fault: str
    seconds: float


class CrashPostgres(Fault):
    """The server ends as in a crash, and is started again at the end."""

    kind = "crash"

    def __init__(self, postgres: LocalPostgres) -> None:
        super().__init__("postgres")
        self._postgres = postgres

    def _begin(self) -> None:
        self._postgres.kill()

    def _end(self) -> None:
        self._postgres.start()


class StopPostgres(CrashPostgres):
    """It is stopped as by an operator, every session ended."""

    kind = "stop"

    def _begin(self) -> None:
        self._postgres.stop()


Draw = Callable[[random.Random], tuple[str, float]]
"""A fault's name and its seconds."""


def _network(chance: random.Random) -> tuple[str, float]:
    kind, longest = chance.choice(
        [("cut", 2.5), ("freeze", 2.5), ("slow", 3.0), ("drop replies of", 3.0), ("reset storm on", 2.5)]
    )
    if chance.random() < 0.1:
        return f"{kind} all", chance.uniform(0.3, 1.0)
    return f"{kind} node {chance.choice(NODES)}", chance.uniform(0.5, longest)


def _node(chance: random.Random) -> tuple[str, float]:
    kind = chance.choice(["kill", "pause", "restart"])
    return f"{kind} node {chance.choice(NODES)}", chance.uniform(1.0, 6.0 if kind == "pause" else 3.0)


def _members(numbers: Collection[int]) -> Draw:
    names = [f"{each.name}-{number}" for each in WORKLOADS for number in numbers if number <= each.members]

    def draw(chance: random.Random) -> tuple[str, float]:
        kind = chance.choice(["kill", "pause", "leave of"])
        # One pause in three is beyond the session, so that its partitions are another's when it wakes up.
        long = kind == "pause" and chance.random() < 1 / 3
        return f"{kind} {chance.choice(names)}", chance.uniform(7.5, 9.0) if long else chance.uniform(0.2, 2.0)

    return draw


def _database(chance: random.Random) -> tuple[str, float]:
    return f"{chance.choice(['crash', 'stop'])} postgres", chance.uniform(0.5, 4.0)


# What is drawn, and the least and most seconds between two: of a name's members only one lane takes hold.
LANES: dict[str, tuple[Draw, float, float]] = {
    "network": (_network, 0.5, 3.0),
    "nodes": (_node, 14.0, 22.0),
    "members": (_members([1]), 1.0, 4.0),
    "more members": (_members([2, 3]), 1.0, 4.0),
    "database": (_database, 25.0, 50.0),
}


def plan(seed: int, seconds: float) -> list[Planned]:
    """The same for the same seed; every lane is drawn by itself, so that a longer run begins as a shorter one."""
    return [each for lane in LANES for each in _lane(lane, seed, seconds)]


def _lane(lane: str, seed: int, seconds: float) -> Iterator[Planned]:
    draw, least, most = LANES[lane]
    chance = random.Random(f"{seed} {lane}")
    at = chance.uniform(least, most) / 2
    while True:
        fault, lasting = draw(chance)
        if at + lasting > seconds:
            return
        yield Planned(round(at, 3), lane, fault, round(lasting, 3))
        at += lasting + chance.uniform(least, most)


class Chaos:
    """Lets the planned faults happen, a thread for each lane; what has happened is in ``past``."""

    def __init__(
        self,
        planned: Sequence[Planned],
        faults: Mapping[str, Fault],
        members: Collection[Member],
        calm: Callable[[], object],
    ) -> None:
        """``calm`` waits until the nodes are well again."""
        self._faults, self._calm = faults, calm
        self._members = {member.name: member for member in members}
        self._suffering: set[str] = set()
        self._changing = threading.Lock()
        self._over = threading.Event()
        self._began = 0.0
        self.past: list[histories.Fault] = []
        self.problems: list[str] = []
        lanes = sorted({each.lane for each in planned})
        self._threads = [
            threading.Thread(target=self._run, args=([each for each in planned if each.lane == lane],), daemon=True)
            for lane in lanes
        ]

    def start(self) -> None:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> None:
        """No further fault; wait for the end of those that have begun."""
        self._over.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.problems.append(f"a fault did not end within {timeout:g} s")

    @property
    def going_on(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def look_after_members(self) -> None:
        """Whoever ended without a fault is a finding, and is started again."""
        with self._changing:
            for name, member in self._members.items():
                if name not in self._suffering and not member.running:
                    self.problems.append(f"{name} ended by itself: {_last_words(member)}")
                    member.revive()

    def _run(self, planned: Sequence[Planned]) -> None:
        for each in planned:
            if self._over.wait(max(0.0, self._began + each.at - time.monotonic())):
                return
            self.look_after_members()
            with self._changing:
                self._suffering.add(self._faults[each.fault].target)
            try:
                self._happen(each)
            except Exception:
                self.problems.append(f"{each.fault}: {traceback.format_exc(limit=3)}")
            with self._changing:
                self._suffering.discard(self._faults[each.fault].target)

    def _happen(self, each: Planned) -> None:
        fault = self._faults[each.fault]
        at = time.monotonic()
        with fault:
            self._over.wait(each.seconds)
        self.past.append(histories.Fault(at, time.monotonic(), fault.kind, fault.target))
        if each.lane == "nodes":
            self._calm()


def _last_words(member: Member) -> str:
    return member.log_tail(3).strip().replace("\n", " | ")
