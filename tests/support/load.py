"""A steady load on a producer, and how long it waited for its acknowledgements."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rdknotify import BatchReport, Delivery, Producer, QueueFull
from support.bulks import joined
from support.waiting import until

OUTCOME_TIMEOUT = 90.0
TICK = 0.05


class Load:
    """Sends numbered records at a rate, from the beginning of the block to its end; then waits for the outcomes.

    ``longest_wait`` is that of a bulk (those of a twentieth of a second) for the last of its outcomes, in seconds.
    """

    def __init__(self, producer: Producer, topic: str, rate: int = 2000, size: int = 20) -> None:
        self.sent: list[bytes] = []
        self.longest_wait = 0.0
        self.refused = 0
        self._producer, self._topic, self._padding = producer, topic, b"." * size
        self._each = round(rate * TICK)
        self._deliveries: list[Delivery] = []
        self._waiting: dict[Delivery, float] = {}
        self._begins: dict[Delivery, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(OUTCOME_TIMEOUT)

    def report(self) -> BatchReport:
        """Of all that was sent, when it is over."""
        assert not self._thread.is_alive(), "outcomes are still unknown"
        return joined([delivery.result(0) for delivery in self._deliveries])

    @property
    def failed(self) -> int:
        """How many are known by now not to have been delivered."""
        return sum(delivery.failed for delivery in list(self._deliveries))

    def until_acknowledged(self, count: int, timeout: float = OUTCOME_TIMEOUT) -> None:
        """Wait until the first so many have their outcomes."""
        until(lambda: self._settled() >= count, f"{count} records have outcomes", timeout)

    def _settled(self) -> int:
        waiting = next(iter(list(self._waiting)), None)
        return len(self.sent) if waiting is None else self._begins[waiting]

    def _run(self) -> None:
        deadline = time.monotonic()
        while not self._over.is_set():
            self._send()
            self._look()
            deadline += TICK
            self._over.wait(max(deadline - time.monotonic(), 0))
        end = time.monotonic() + OUTCOME_TIMEOUT
        while self._waiting and time.monotonic() < end:
            self._look()
            time.sleep(TICK / 5)

    def _send(self) -> None:
        begin = len(self.sent)
        values = [b"%08d" % number + self._padding for number in range(begin, begin + self._each)]
        now = time.monotonic()
        try:
            delivery = self._producer.send_batch(self._topic, values)
        except QueueFull as full:
            self.refused += 1
            delivery = full.delivery
        self.sent += values
        self._deliveries.append(delivery)
        self._begins[delivery] = begin
        self._waiting[delivery] = now

    def _look(self) -> None:
        now = time.monotonic()
        for delivery, since in list(self._waiting.items()):
            if delivery.done():
                self.longest_wait = max(self.longest_wait, now - since)
                del self._waiting[delivery]
