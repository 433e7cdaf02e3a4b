"""A client of the run in a process of its own, which writes its history: ``python -m reliability.chaos.member JSON``.

SIGTERM ends it in order. What the library raises and an application need not expect ends it with a traceback; what an
operator would answer by starting it again (nobody answers at the start) it does itself.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import orjson

from rdknotify import Consumer, Delivery, Listener, Notification, Persister, PostgresSink, Producer, SQLiteSink
from rdknotify.consumer import Batch
from rdknotify.envelope import encode
from rdknotify.errors import KafkaError, RdNotifyError, Timeout
from rdknotify.outcomes import Outcome
from rdknotify.sinks import SinkError
from rdknotify.testing.checker import Poll, Result, Send, Writer, partition_runs, spans, value
from rdknotify.testing.checker.history import NOWHERE
from reliability.chaos.setting import BATCH, BULK, NAME, TOPIC

log = logging.getLogger("member")

PERIOD = 0.1
MOST_IN_FLIGHT = 20_000
"""Records without an outcome, beyond which a producer waits."""
ENDING_TIMEOUT = 15.0
"""Seconds that a producer waits for its last outcomes."""
AGAIN = 0.5
"""Seconds until the next try to connect."""

_T = TypeVar("_T")


class Member:
    """Does its role until SIGTERM. Each life has a number of its own, and so a history and values of its own."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.url: str = job["url"]
        self.group: str = job["workload"]
        self.options: dict[str, Any] = job["options"]
        self.database: str = job["database"]
        folder = Path(job["history"])
        lives = len(list(folder.glob(f"{job['name']}.*.jsonl")))
        self.process = f"{job['name']}.{lives}"
        self.number = job["number"] << 12 | lives
        self.history = Writer(folder / f"{self.process}.jsonl")
        self.ending = False
        self._service: Listener | Persister | None = None
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, number: int, frame: object) -> None:
        self.ending = True
        if self._service is not None:
            self._service.stop()

    def connected(self, connect: Callable[[], _T]) -> _T | None:
        """What ``connect`` returns, tried until somebody answers; None when it is time to end."""
        while not self.ending:
            try:
                return connect()
            except (Timeout, SinkError) as error:
                log.warning("nobody answers yet: %s", error)
                time.sleep(AGAIN)
        return None

    # -- sending ---------------------------------------------------------------------------------------------

    def produce(self) -> None:
        """Bulks at a fixed rate; exactly what is safe is sent again."""
        sequence = 0
        while not self.ending:
            producer = self.connected(lambda: Producer(self.url, compression_codec="lz4", **self.options))
            if producer is None:
                return
            sending = Sending(self, producer, sequence)
            try:
                sending.run()
                producer.close(0)
            except KafkaError as error:
                if not isinstance(error, Timeout) and not error.fatal:
                    raise
                log.warning("a new producer, because: %s", error)
                producer.shut()
            finally:
                sending.take_reports(final=True)
                sequence = sending.sequence

    # -- receiving -------------------------------------------------------------------------------------------

    def consume(self) -> None:
        """Poll, note, commit; a commit that failed is left to the next one."""
        epochs: Counter[tuple[str, int]] = Counter()
        consumer = self.connected(
            lambda: Consumer(
                self.url, [TOPIC], self.group, on_assigned=lambda given: epochs.update(given), **self.options
            )
        )
        if consumer is None:
            return
        with consumer:
            while not self.ending:
                batch = consumer.poll(BATCH, PERIOD)
                if batch:
                    self._note(batch, epochs)
                    try:
                        batch.commit()
                    except KafkaError as error:
                        if error.fatal:
                            raise
                        log.warning("not committed: %s", error)

    def _note(self, batch: Batch, epochs: Counter[tuple[str, int]]) -> None:
        at = time.monotonic()
        values = (int(orjson.loads(orjson.loads(wire or b"")["oslo.message"])["message_id"]) for wire in batch.values())
        for topic, partition, told in partition_runs(batch.origins(), values):
            epoch = epochs[topic, partition]
            self.history.write(Poll(at, self.process, self.group, told, topic, partition, epoch))

    def info(self, notifications: list[dict[str, Any]]) -> None:
        """The listeners' endpoint, which is not told offsets."""
        values = [int(notification["metadata"]["message_id"]) for notification in notifications]
        told = [(NOWHERE, first, count) for first, count in spans(values)]
        self.history.write(Poll(time.monotonic(), self.process, self.group, told))

    def listen(self) -> None:
        self._serve(lambda: Listener(self.url, [NAME], [self], pool=self.group, batch_size=BATCH, **self.options))

    def persist(self) -> None:
        def make() -> Persister:
            postgres = self.database.startswith("postgresql:")
            sink = PostgresSink(self.database) if postgres else SQLiteSink(self.database)
            return Persister(self.url, [TOPIC], group=self.group, sink=sink, max_wait=0.5, **self.options)

        self._serve(make)

    def _serve(self, make: Callable[[], Listener | Persister]) -> None:
        def run() -> None:
            service = self._service = make()
            if self.ending:
                return
            try:
                service.run()
            except RdNotifyError:
                if service.counts.received:
                    log.exception("it had worked before")
                    raise SystemExit(1) from None
                raise
            self.ending = True

        self.connected(run)


class Sending:
    """One producer's life: what is in flight, what is to be sent again."""

    def __init__(self, member: Member, producer: Producer, sequence: int) -> None:
        self.sequence = sequence
        self._member, self._producer = member, producer
        self._history, self._process = member.history, member.process
        self._waiting: deque[tuple[list[int], Delivery]] = deque()
        self._again: list[int] = []

    def run(self) -> None:
        due = time.monotonic()
        while not self._member.ending:
            self.take_reports()
            if len(self._waiting) * BULK >= MOST_IN_FLIGHT:
                time.sleep(PERIOD)
                continue
            self._send(self._bulk())
            due += PERIOD  # after a standstill it catches up
            time.sleep(max(0.0, due - time.monotonic()))
        deadline = time.monotonic() + ENDING_TIMEOUT
        while (self._waiting or self._again) and time.monotonic() < deadline:
            self.take_reports()
            if self._again:
                self._send(self._again_first())
            time.sleep(PERIOD)

    def _again_first(self) -> list[int]:
        chosen, self._again = self._again[:BULK], self._again[BULK:]
        return chosen

    def _bulk(self) -> list[int]:
        chosen = self._again_first()
        fresh = BULK - len(chosen)
        chosen += [value(self._member.number, self.sequence + index) for index in range(fresh)]
        self.sequence += fresh
        return chosen

    def _send(self, values: list[int]) -> None:
        self._history.write(Send(time.monotonic(), self._process, spans(values)))
        self._waiting.append((values, self._producer.send_batch(TOPIC, list(map(_wire, values)))))

    def take_reports(self, final: bool = False) -> None:
        """Note the outcomes that are known; finally also those of a producer that has ended."""
        waiting = self._waiting
        for _ in range(len(waiting)):
            values, delivery = waiting.popleft()
            if (report := delivery.poll()) is None:
                if not final:
                    waiting.append((values, delivery))
                continue
            of = dict.fromkeys(range(len(values)), Outcome.DELIVERED)
            of.update((failure.index, failure.outcome) for failure in report.failures)
            for outcome in Outcome:
                chosen = [values[index] for index, each in of.items() if each is outcome]
                if chosen:
                    self._history.write(Result(time.monotonic(), self._process, outcome.value, spans(chosen)))
                if outcome is Outcome.NOT_PERSISTED:
                    self._again += chosen


def _wire(number: int) -> bytes:
    fields = (str(number), "chaos:member", "record", "INFO", {"n": number}, "2026-01-01 00:00:00.000000")
    return encode(Notification(*fields))


def main(text: str) -> None:
    faulthandler.enable()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    job = json.loads(text)
    member = Member(job)
    with member.history:
        {"produce": member.produce, "consume": member.consume, "listen": member.listen, "persist": member.persist}[
            job["role"]
        ]()


if __name__ == "__main__":
    main(sys.argv[1])
