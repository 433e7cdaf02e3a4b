"""The clients of a run, each in a process of its own, and the judgement of what they did."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from rdknotify import _rdknotify as core
from rdknotify.errors import RdNotifyError
from rdknotify.testing import checker
from rdknotify.testing.block import Startable
from rdknotify.testing.cluster import KafkaCluster, until
from rdknotify.testing.process import GuardedProcess
from rdknotify.topics import notification_topic

PROGRAM = Path(__file__).with_name("client.py")
LEAVE_TIMEOUT = 90.0
"""Seconds that a client may take to end in order: a sender waits for its last outcomes."""
READ_TIMEOUT = 120.0
"""Seconds without a record after which the log is not read further."""


class ClientError(RdNotifyError):
    """A client ended otherwise than it was told; the text has the end of its output."""


class Client:
    """A client's process: ``name`` is its history's process."""

    def __init__(self, name: str, folder: Path, job: dict[str, Any]) -> None:
        self.name = name
        self.history = folder / "history" / f"{name}.jsonl"
        self._process = GuardedProcess(name, folder / name, ClientError)
        self._process.folder.mkdir()
        text = json.dumps({**job, "name": name, "history": str(self.history)})
        # The mark by which a leftover is found; the program does not read it.
        self._process.start([sys.executable, str(PROGRAM), text, f"--rdknotify.owner={os.getpid()}"])

    @property
    def running(self) -> bool:
        return self._process.running

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def output(self) -> list[str]:
        """The lines it has written, one for each error that an application has to expect."""
        return self._process.log_tail(1_000_000).splitlines()

    def has_begun(self) -> bool:
        """It has sent or been handed something."""
        return self.history.exists() and self.history.stat().st_size > 0

    def leave(self) -> None:
        """End it as an operator would."""
        self.tell_to_leave()
        self.wait()

    def tell_to_leave(self) -> None:
        self._process.send(signal.SIGTERM)

    def wait(self, timeout: float = LEAVE_TIMEOUT) -> None:
        """Wait for its end in order. Raises ClientError."""
        if not self._process.wait(timeout):
            raise ClientError(f"{self.name} had not ended {timeout:g} s after SIGTERM{self._end()}")
        if self._process.status != 0:
            raise ClientError(f"{self.name} ended with status {self._process.status}{self._end()}")

    def wait_for_death(self, timeout: float = LEAVE_TIMEOUT) -> None:
        """Wait until it has killed itself, as its job said. Raises ClientError."""
        if not self._process.wait(timeout) or self._process.status != -signal.SIGKILL:
            raise ClientError(f"{self.name} did not kill itself{self._end()}")

    def crash(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def _end(self) -> str:
        return f":\n{self._process.log_tail(20)}"


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
                client.wait(0)
            return client.has_begun() or None

        until(look, timeout, f"{client.name} did nothing")
        return client

    def leave(self, clients: Collection[Client]) -> None:
        """End them in order, all at once."""
        for client in clients:
            client.tell_to_leave()
        for client in clients:
            client.wait()

    def close(self) -> None:
        for client in self.clients:
            client.crash()

    def check_running(self) -> None:
        """Raises ClientError for one that has ended by itself."""
        for client in self.clients:
            if client.pid is not None and not client.running:
                client.wait(0)

    # -- judging ---------------------------------------------------------------------------------------------

    def judge(self, before: Collection[str] = ()) -> checker.Report:
        """Read the log and compare the histories with it."""
        folder = self._folder / "history"
        with checker.Writer(folder / "log.jsonl") as history:
            for logged in read_log(self._kafka.bootstrap_servers, self.topic):
                history.write(logged)
        return checker.check(checker.load(folder), before)

    def events(self) -> Iterator[checker.Event]:
        return checker.load(self._folder / "history")

    def lag(self, group: str) -> int:
        """How many records the group has not committed."""
        outsider = core.Consumer({"bootstrap.servers": self._kafka.bootstrap_servers, "group.id": group})
        try:
            partitions = [(self.topic, number) for number in outsider.metadata(self.topic, 10)["topics"][self.topic]]
            committed = outsider.committed(partitions, 10)
            ends = outsider.offsets_for_times([(*partition, -1) for partition in partitions], 10)
            return sum(ends[partition] - (committed[partition] or 0) for partition in partitions)
        finally:
            outsider.shut()


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


def wait_for(condition: Callable[[], object], timeout: float, failure: str) -> None:
    """Wait for something that is about to happen. Raises LocalKafkaError at the deadline (seconds)."""
    until(lambda: True if condition() else None, timeout, failure)
