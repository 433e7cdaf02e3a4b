"""The clients of a run, each in a process of its own, and the judgement of what they did."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from rdknotify import _rdknotify as core
from rdknotify.testing import checker
from rdknotify.testing.block import Startable
from rdknotify.testing.cluster import KafkaCluster, until
from rdknotify.testing.faults import Member, MemberError
from rdknotify.topics import notification_topic

PROGRAM = Path(__file__).with_name("client.py")
EXIT_TIMEOUT = 90.0
"""Seconds that a client may take to end in order: a sender waits for its last outcomes."""
READ_TIMEOUT = 120.0
"""Seconds without a record after which the log is not read further."""
CALM_TIMEOUT = 120.0
"""Seconds for the lag to return to 0 when nothing is sent any more."""
TOLD = "told: "
"""Before a client's line of an error."""


class Client(Member):
    """A client's process; its name is its history's process."""

    def __init__(self, name: str, folder: Path, job: dict[str, Any]) -> None:
        self.history = folder / "history" / f"{name}.jsonl"
        text = json.dumps({**job, "name": name, "history": str(self.history)})
        # The mark by which a leftover is found; the program does not read it.
        owner = f"--rdknotify.owner={os.getpid()}"
        super().__init__(name, folder / name, [sys.executable, str(PROGRAM), text, owner])

    @property
    def errors(self) -> list[str]:
        """What it was told that an application has to expect, one line each."""
        return [line for line in self.log_tail(1_000_000).splitlines() if line.startswith(TOLD)]

    def has_begun(self) -> bool:
        """It has sent or been handed something."""
        return self.history.exists() and self.history.stat().st_size > 0

    def ended(self, status: int = 0, timeout: float = EXIT_TIMEOUT) -> None:
        """Wait for its end. Raises MemberError when it comes too late, or with another status."""
        if not self.wait(timeout) or self.status != status:
            raise MemberError(f"{self.name}: status {self.status} instead of {status}:\n{self.log_tail(20)}")

    def leave(self, timeout: float = EXIT_TIMEOUT) -> None:
        """SIGTERM, and wait for its end in order. Raises MemberError."""
        super().leave(timeout)
        self.ended()


class Crew(Startable):
    """Starts clients of one topic; a context manager that leaves none behind. Histories are in ``folder``."""

    def __init__(self, kafka: KafkaCluster, topic: str, folder: Path) -> None:
        self._kafka, self._topic, self._folder = kafka, topic, folder
        self.clients: list[Client] = []

    @property
    def topic(self) -> str:
        """The topic on the cluster."""
        return notification_topic(self._topic, "info")

    def start(self) -> None:
        (self._folder / "history").mkdir(parents=True)

    def add(self, role: str, group: str = "", **job: Any) -> Client:
        """Start one; ``job`` as :class:`reliability.client.Job`."""
        common = {"role": role, "group": group, "url": self._kafka.url, "topic": self._topic}
        client = Client(f"{role}-{len(self.clients)}", self._folder, {**common, **job})
        self.clients.append(client)
        return client

    def begun(self, client: Client, timeout: float = 60.0) -> Client:
        """Wait until it has done something."""

        def look() -> bool | None:
            if not client.running:
                client.ended()
            return client.has_begun() or None

        until(look, timeout, f"{client.name} did nothing")
        return client

    def leave(self, clients: Collection[Client]) -> None:
        """End them in order, all at once."""
        for client in clients:
            client.send(signal.SIGTERM)
        for client in clients:
            client.ended()

    def close(self) -> None:
        for client in self.clients:
            client.kill()

    def check_running(self) -> None:
        """Raises MemberError for one that has ended by itself."""
        for client in self.clients:
            if client.pid is not None and not client.running:
                client.ended()

    # -- judging ---------------------------------------------------------------------------------------------

    def judge(self, before: Collection[str] = (), databases: Mapping[str, Path] | None = None) -> checker.Report:
        """Read the log, and the databases of groups that persist, and compare the histories with both."""
        folder = self._folder / "history"
        with checker.Writer(folder / "log.jsonl") as history:
            for logged in read_log(self._kafka.bootstrap_servers, self.topic):
                history.write(logged)
            for group, database in (databases or {}).items():
                for stored in read_database(database, group, self.topic):
                    history.write(stored)
        return checker.check(checker.load(folder), before)

    def events(self) -> Iterator[checker.Event]:
        return checker.load(self._folder / "history")

    def wait_until_committed(self, groups: Iterable[str], timeout: float = CALM_TIMEOUT) -> None:
        """Wait until the lag of each is 0. Raises LocalKafkaError at the deadline (seconds)."""
        for group in groups:

            def done(group: str = group) -> bool | None:
                self.check_running()
                return self.lag(group) == 0 or None

            until(done, timeout, f"the lag of {group} did not return to 0")

    def lag(self, group: str) -> int:
        """How many records the group has not committed; what it has is noted for the checker."""
        outsider = core.Consumer({"bootstrap.servers": self._kafka.bootstrap_servers, "group.id": group})
        try:
            partitions = [(self.topic, number) for number in outsider.metadata(self.topic, 10)["topics"][self.topic]]
            committed = outsider.committed(partitions, 10)
            at = time.monotonic()
            ends = outsider.offsets_for_times([(*partition, -1) for partition in partitions], 10)
        finally:
            outsider.shut()
        with checker.Writer(self._folder / "history" / "commits.jsonl") as history:
            for (topic, number), offset in committed.items():
                history.write(checker.Commit(at, group, topic, number, offset or 0))
        return sum(ends[partition] - (committed[partition] or 0) for partition in partitions)


def read_log(bootstrap: str, topic: str) -> Iterator[checker.Logged]:
    """All of a topic, partition by partition, by a client that is not ours."""
    conf = {"bootstrap.servers": bootstrap, "group.id": "judge", "enable.auto.commit": False}
    consumer = Consumer({**conf, "enable.partition.eof": True, "log_level": 2})
    try:
        for partition in consumer.list_topics(topic, 30).topics[topic].partitions:
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), 30)
            yield checker.Logged(topic, partition, _read_partition(consumer, topic, partition, end))
    finally:
        consumer.close()


def _read_partition(consumer: Consumer, topic: str, partition: int, end: int) -> list[checker.Run]:
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
    found: list[checker.Run] = []
    reached, since = 0, time.monotonic()
    while reached < end:
        messages = consumer.consume(10_000, 0.5)
        offsets, values = [], []
        for message in messages:
            error = message.error()
            if error is None:
                offsets.append(message.offset() or 0)
                envelope = orjson.loads(message.value() or b"")
                values.append(orjson.loads(envelope["oslo.message"])["payload"]["n"])
            elif error.code() == KafkaError._PARTITION_EOF:
                reached = max(reached, message.offset() or 0)
        if offsets:
            found += checker.runs(offsets, values)
            reached, since = offsets[-1] + 1, time.monotonic()
        if time.monotonic() - since > READ_TIMEOUT:
            raise TimeoutError(f"{topic}-{partition} was read up to {reached}, not to its end {end}")
    return found


def read_database(path: Path, group: str, topic: str) -> Iterator[checker.Stored]:
    """All that persisters have stored, partition by partition."""
    with closing(sqlite3.connect(path)) as database:
        partitions = [each for (each,) in database.execute("SELECT DISTINCT partition FROM notifications")]
        for partition in partitions:
            query = 'SELECT "offset", payload FROM notifications WHERE partition = ? ORDER BY "offset"'
            rows = database.execute(query, (partition,))
            pairs = [(offset, orjson.loads(payload)["n"]) for offset, payload in rows]
            found = checker.runs([offset for offset, _ in pairs], [number for _, number in pairs])
            yield checker.Stored(group, topic, partition, found)


def longest_wait(events: Iterator[checker.Event], group: str) -> float:
    """Seconds: the longest that a record waited from being sent until a member of the group was first handed it."""
    sent: dict[int, float] = {}
    seen: dict[int, float] = {}
    for event in events:
        if isinstance(event, checker.Send):
            for first, count in event.values:
                sent.update(dict.fromkeys(range(first, first + count), event.at))
        elif isinstance(event, checker.Poll) and event.group == group:
            for _, first, count in event.runs:
                for number in range(first, first + count):
                    seen[number] = min(event.at, seen.get(number, event.at))
    return max(seen[number] - sent[number] for number in seen.keys() & sent.keys())
