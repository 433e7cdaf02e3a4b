"""Members of share groups that work in a thread of their own and count what became of each record."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from rdknotify import AcknowledgeFailed, Record, ShareBatch, ShareConsumer


def take(member: ShareConsumer, count: int, timeout: float = 30.0, max_records: int | None = None) -> list[ShareBatch]:
    """Batches with at least ``count`` records, each accepted."""
    deadline = time.monotonic() + timeout
    taken: list[ShareBatch] = []
    while sum(map(len, taken)) < count:
        assert time.monotonic() < deadline, f"{sum(map(len, taken))} of {count} records after {timeout:g} s"
        taken.append(member.poll(max_records, timeout=1))
        member.accept(taken[-1])
    member.commit()
    return [batch for batch in taken if batch]


def hold(member: ShareConsumer, timeout: float = 30.0) -> ShareBatch:
    """The next batch that is not empty; nothing is settled."""
    deadline = time.monotonic() + timeout
    while not (batch := member.poll(timeout=1)):
        assert time.monotonic() < deadline, f"no record after {timeout:g} s"
    return batch


class Worker(threading.Thread):
    """Polls until told to end; ``judge`` says of each record whether it is accepted, or else released."""

    def __init__(self, member: ShareConsumer, judge: Callable[[Record], bool] = lambda record: True) -> None:
        super().__init__(name=member.name, daemon=True)
        self.member = member
        self.accepted: Counter[bytes | None] = Counter()
        self.deliveries: Counter[bytes | None] = Counter()
        self.miscounted: list[Record] = []
        self.failures: list[AcknowledgeFailed] = []
        self.last_progress = self.longest_gap = 0.0
        self._judge = judge
        self._ending = threading.Event()

    def run(self) -> None:
        while not self._ending.is_set():
            self._note(self._work)
        self._note(self.member.commit)

    def end(self) -> None:
        self._ending.set()
        self.join(60)
        assert not self.is_alive()

    def _work(self) -> None:
        batch = self.member.poll(timeout=0.2)
        for record in batch:
            self.deliveries[record.value] += 1
            if record.delivery_count != self.deliveries[record.value]:
                self.miscounted.append(record)
        done = [record for record in batch if self._judge(record)]
        self.member.accept(done)
        self.member.release(record for record in batch if record not in done)
        self.accepted.update(record.value for record in done)
        if done:
            now = time.monotonic()
            self.longest_gap = max(self.longest_gap, now - (self.last_progress or now))
            self.last_progress = now

    def _note(self, call: Callable[[], object]) -> None:
        try:
            call()
        except AcknowledgeFailed as error:
            self.failures.append(error)
