"""Threads that share one producer and one consumer: ``python reliability/sharing.py URL TOPIC SECONDS``.

Whatever may be called from any thread is called from all: records are sent, their outcomes awaited, batches polled,
read, committed and released by whoever comes first, and lists that are being sent grow and shrink meanwhile. Each
record of a bulk bears its number and must arrive once. What came of it is printed as JSON. It needs nothing but
rdknotify's clients, so any Python will do.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rdknotify import Batch, Consumer, Delivery, Producer

THREADS = 8
NUMBERED, LOOSE = b"numbered", b"loose"
"""Keys: of the records with a number, and of those out of the lists that everybody changes."""
AHEAD = 20_000
"""Records sent and not received, from which on nobody sends."""
PATIENCE = 60.0
"""Seconds for outcomes, and for the last records to arrive."""


class Sharing:
    """What the threads share. Nothing here is locked that the clients must bear unlocked."""

    def __init__(self, producer: Producer, consumer: Consumer, topic: str, threads: int = THREADS) -> None:
        self.producer, self.consumer, self.topic = producer, consumer, topic
        self.threads = threads
        self.failures: list[str] = []
        self._deliveries: deque[Delivery] = deque()
        self._batches: deque[Batch] = deque(maxlen=2 * threads)
        self._values = [b"loose"] * 20
        self._counting = threading.Lock()
        self._sent = [0] * threads
        self._seen = [bytearray() for _ in range(threads)]
        self._loose = self._loose_seen = self._received = self._delivered = self._strange = 0

    def run(self, seconds: float) -> dict[str, Any]:
        """Let the threads do what they like, then take what is still on its way; returns the counts."""
        end = time.monotonic() + seconds
        self._all(lambda number: self._play(number, end))
        self._all(lambda number: self._finish(time.monotonic() + PATIENCE))
        sent = sum(self._sent)
        seen = [times for each, count in zip(self._seen, self._sent, strict=True) for times in each[:count]]
        unseen = sum(max(0, count - len(each)) for each, count in zip(self._seen, self._sent, strict=True))
        return {
            "sent": sent + self._loose,
            "without a good outcome": sent + self._loose - self._delivered,
            "lost": seen.count(0) + unseen + max(0, self._loose - self._loose_seen),
            "received twice": sum(times > 1 for times in seen) + max(0, self._loose_seen - self._loose),
            "of unknown origin": self._strange,
            "failures": self.failures,
        }

    def _all(self, work: Callable[[int], None]) -> None:
        def guarded(number: int) -> None:
            try:
                work(number)
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=guarded, args=(number,)) for number in range(self.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _play(self, number: int, end: float) -> None:
        chance = random.Random(number)
        moves = [
            self._send,
            self._send_bulk,
            self._send_loose,
            self._settle,
            self._take,
            self._take,
            self._look,
            self._ask,
        ]
        while time.monotonic() < end and not self.failures:
            move = chance.choice(moves)
            if move in moves[:3] and sum(self._sent) + self._loose - self._received > AHEAD:
                move = self._take
            move(number, chance)

    def _finish(self, deadline: float) -> None:
        while self._deliveries:
            self._settle(0, random.Random())
        while self._received < sum(self._sent) + self._loose and time.monotonic() < deadline and not self.failures:
            self._take(0, random.Random())

    # -- sending --------------------------------------------------------------------------------------------------

    def _next(self, number: int, count: int) -> list[bytes]:
        first = self._sent[number]  # written by this thread alone
        self._sent[number] = first + count
        return [b"%d %d" % (number, sequence) for sequence in range(first, first + count)]

    def _send(self, number: int, chance: random.Random) -> None:
        value = self._next(number, 1)[0]
        form: Any = chance.choice([bytes, bytearray, memoryview, bytes.decode])
        self._deliveries.append(self.producer.send(self.topic, form(value), NUMBERED, {"thread": str(number)}))

    def _send_bulk(self, number: int, chance: random.Random) -> None:
        values = self._next(number, chance.randint(1, 200))
        self._deliveries.append(self.producer.send_batch(self.topic, values, [NUMBERED] * len(values)))

    def _send_loose(self, number: int, chance: random.Random) -> None:
        """What is in the list is decided when it is sent, while others change it."""
        values = self._values
        if chance.random() < 0.5 and len(values) < 100:
            values.extend([b"loose %d" % number] * chance.randint(1, 10))
        else:
            del values[: len(values) // 2]
        delivery = self.producer.send_batch(self.topic, values, headers={"loose": LOOSE})
        with self._counting:
            self._loose += delivery.total
        self._deliveries.append(delivery)

    def _settle(self, number: int, chance: random.Random) -> None:
        with suppress(IndexError):  # another was faster
            if chance.random() < 0.3:
                self._deliveries[-1].poll()  # beside whoever waits for it
            delivery = self._deliveries.popleft()
            delivered = delivery.result(PATIENCE).delivered
            with self._counting:
                self._delivered += delivered

    # -- receiving ------------------------------------------------------------------------------------------------

    def _take(self, number: int, chance: random.Random) -> None:
        batch = self.consumer.poll(500, 0.05)
        if not batch:
            return
        values, keys = batch.values(), batch.keys()
        with self._counting:
            self._received += len(values)
            for value, key in zip(values, keys, strict=True):
                self._enter(value or b"", key)
        self._batches.append(batch)

    def _enter(self, value: bytes, key: bytes | None) -> None:
        if value.startswith(LOOSE) and key is None:
            self._loose_seen += 1
            return
        sender, sequence = map(int, value.split()) if key == NUMBERED else (-1, 0)
        if not 0 <= sender < self.threads:
            self._strange += 1
            return
        seen = self._seen[sender]
        if len(seen) <= sequence:
            seen.extend(bytes(2 * (sequence + 1) - len(seen)))
        seen[sequence] = min(255, seen[sequence] + 1)

    def _look(self, number: int, chance: random.Random) -> None:
        """At a batch that others look at, commit or release as well."""
        with suppress(IndexError):
            batch = self._batches[-1] if chance.random() < 0.8 else self._batches.popleft()
            turn = chance.randrange(4)
            if turn == 0:
                batch.release()
            elif turn == 1:
                batch.commit(PATIENCE)
            elif turn == 2:
                records = list(batch)
                batch.release()
                # A Record is a Buffer for mypy from Python 3.12 on only.
                views: list[Any] = list(records)
                same = (bytes(memoryview(view)) == record.value for view, record in zip(views, records, strict=True))
                assert all(same), "a view is not the value"
            else:
                last: dict[tuple[str, int], int] = {}
                for topic, partition, offset in batch.origins():
                    assert last.get((topic, partition), -1) < offset, "offsets do not rise"
                    last[topic, partition] = offset

    def _ask(self, number: int, chance: random.Random) -> None:
        consumer, producer = self.consumer, self.producer
        questions: list[Callable[[], object]] = [
            lambda: producer.in_flight,
            lambda: producer.metadata(self.topic, PATIENCE),
            lambda: producer.statistics,
            lambda: producer.flush(PATIENCE),
            lambda: consumer.assignment(),
            lambda: consumer.position(),
            lambda: consumer.committed(),
            lambda: consumer.pause(),
        ]
        chance.choice(questions)()
        consumer.resume()


def main(url: str, topic: str, seconds: float) -> None:
    """Print the counts, and whether there is a GIL."""
    with Producer(url) as producer, Consumer(url, [topic], "sharing", start="earliest") as consumer:
        counts = Sharing(producer, consumer, topic).run(seconds)
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(json.dumps({**counts, "python": sys.version.split()[0], "gil": gil}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
