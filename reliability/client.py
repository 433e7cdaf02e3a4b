"""One client in a process of its own, which writes its history: ``python reliability/client.py JSON``.

SIGTERM ends it in order, with status 0. What the library raises and an application need not expect ends it with
status 1 and a traceback. What it must expect (a full queue, a commit that failed) is a line on stderr.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Any

import msgspec

from rdknotify import Consumer, Listener, Notifier, Outcome, Persister, SQLiteSink
from rdknotify.consumer import Batch
from rdknotify.envelope import decode
from rdknotify.errors import CommitFailed, DeliveryError, QueueFull, Timeout
from rdknotify.testing.checker import Poll, Result, Send, Writer, partition_runs, spans, value
from rdknotify.testing.checker.history import NOWHERE
from rdknotify.topics import TopicPartition, notification_topic

RESULT_TIMEOUT = 60.0
"""Seconds for the last outcomes; less than the delivery timeout only where that is left at its default."""


class Job(msgspec.Struct):
    """What to do. ``rate``: records a second, 0: flat out; ``bulks``: the least and the most records of a call."""

    role: str
    name: str
    history: str
    url: str
    topic: str
    group: str = ""
    number: int = 0
    """Of a sender: its records' values are made of it."""
    rate: float = 0.0
    bulks: tuple[int, int] = (1, 1)
    most: int = 500
    """Records that a member takes at a time."""
    die_at: int = 0
    """The batch in which a member kills itself, after it was handed the records and before it commits; 0: never."""
    pause: float = 0.0
    """Seconds that a member takes for each batch."""
    database: str = ""
    """A persister's file."""
    options: dict[str, Any] = {}


class Client:
    """Does the job until SIGTERM."""

    def __init__(self, job: Job, history: Writer) -> None:
        self.job, self.history = job, history
        self.ending = False
        self._batches = 0

    def end(self, number: int, frame: object) -> None:
        self.ending = True

    def report_failure(self, error: Exception) -> None:
        print(f"told: {type(error).__name__}: {error}", file=sys.stderr, flush=True)

    # -- sending ---------------------------------------------------------------------------------------------

    def send(self) -> None:
        job, chance = self.job, random.Random(self.job.number)
        waiting: deque[tuple[int, Any]] = deque()
        try:
            with Notifier(job.url, job.name, [job.topic], **job.options) as notifier:
                begun, sequence = time.monotonic(), 0
                while not self.ending:
                    first, count = value(job.number, sequence), chance.randint(*job.bulks)
                    sequence += count
                    waiting.append((first, self._enqueue(notifier, first, count)))
                    self._take_reports(waiting)
                    if job.rate:
                        time.sleep(max(0.0, begun + sequence / job.rate - time.monotonic()))
                for _, delivery in waiting:
                    delivery.result(RESULT_TIMEOUT)
                self._take_reports(waiting)
        except DeliveryError as error:  # by close(): each of them is in the history
            self.report_failure(error)

    def _enqueue(self, notifier: Notifier, first: int, count: int) -> Any:
        self.history.write(Send(time.monotonic(), self.job.name, [(first, count)]))
        try:
            return notifier.notify_batch("info", [("load", {"n": first + index}) for index in range(count)])
        except QueueFull as full:
            self.report_failure(full)
            return full.delivery

    def _take_reports(self, waiting: deque[tuple[int, Any]]) -> None:
        while waiting and (report := waiting[0][1].poll()) is not None:
            first, _ = waiting.popleft()
            outcomes = defaultdict(list)
            failed = {failure.index: failure.outcome for failure in report.failures}
            for index in range(report.total):
                outcomes[failed.get(index, Outcome.DELIVERED)].append(first + index)
            for outcome, values in outcomes.items():
                self.history.write(Result(time.monotonic(), self.job.name, outcome.value, spans(values)))

    # -- receiving -------------------------------------------------------------------------------------------

    def consume(self) -> None:
        job = self.job
        epochs: Counter[tuple[str, int]] = Counter()

        def assigned(partitions: list[TopicPartition]) -> None:
            epochs.update(partitions)

        topic = notification_topic(job.topic, "info")
        with Consumer(job.url, [topic], job.group, on_assigned=assigned, **job.options) as consumer:
            while not self.ending:
                batch = consumer.poll(job.most, 0.1)
                if batch:
                    self._note(batch, epochs)
                    self._work()
                    try:
                        batch.commit()
                    except (CommitFailed, Timeout) as error:
                        self.report_failure(error)

    def _note(self, batch: Batch, epochs: Counter[tuple[str, int]]) -> None:
        at = time.monotonic()
        values = (decode(wire or b"").payload["n"] for wire in batch.values())
        for topic, partition, told in partition_runs(batch.origins(), values):
            epoch = epochs[topic, partition]
            self.history.write(Poll(at, self.job.name, self.job.group, told, topic, partition, epoch))

    def listen(self) -> None:
        job = self.job
        options: dict[str, Any] = {"settle": "after", "batch_size": job.most} | job.options
        Listener(job.url, [job.topic], [self], pool=job.group, **options).run()

    def persist(self) -> None:
        job = self.job
        topic, sink = notification_topic(job.topic, "info"), SQLiteSink(job.database)
        Persister(job.url, [topic], group=job.group, sink=sink, **job.options).run()

    def info(self, notifications: list[dict[str, Any]]) -> None:
        """The listener's endpoint, which is not told offsets."""
        values = [notification["payload"]["n"] for notification in notifications]
        told = [(NOWHERE, first, count) for first, count in spans(values)]
        self.history.write(Poll(time.monotonic(), self.job.name, self.job.group, told))
        self._work()

    def _work(self) -> None:
        time.sleep(self.job.pause)
        self._batches += 1
        if self._batches == self.job.die_at:
            os.kill(os.getpid(), signal.SIGKILL)


def main(text: str) -> None:
    job = msgspec.json.decode(text, type=Job)
    with Writer(job.history) as history:
        client = Client(job, history)
        signal.signal(signal.SIGTERM, client.end)
        roles: list[Callable[[], None]] = [client.send, client.consume, client.listen, client.persist]
        next(role for role in roles if role.__name__ == job.role)()


if __name__ == "__main__":
    main(sys.argv[1])
