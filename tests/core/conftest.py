"""The extension against the in-process cluster: clients that answer rebalances; nothing native may leak."""

from __future__ import annotations

import gc
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.processes import STRICT_PYTHON
from support.waiting import PATIENCE
from support.waiting import until as _wait

from rdknotify import _rdknotify as core
from rdknotify.errors import KafkaError

TOPIC = "records"


class Member:
    """A consumer that answers every rebalance as asked, which is the least that a user of the core must do."""

    def __init__(self, conf: dict[str, str], topics: list[str]) -> None:
        self.client = core.Consumer(conf)
        self.rebalances: list[tuple[str, list[core.Partition], bool]] = []
        self.errors: list[KafkaError] = []
        self.client.subscribe(topics)

    def step(self, timeout: float = 0.1, max_records: int = 500) -> core.Batch:
        batch = core.Batch()
        if not self.client.poll(batch, max_records, timeout):
            self.answer()
            self.errors += self.client.take_errors()
        return batch

    def answer(self) -> None:
        while rebalance := self.client.take_rebalance():
            self.rebalances.append(rebalance)
            kind, partitions, incremental = rebalance
            if kind == "assign":
                self.client.assign([(*partition, -1001) for partition in partitions], incremental)
            else:
                self.client.unassign(partitions, incremental)

    def batches(self, count: int, timeout: float = 10.0, max_records: int = 500) -> list[core.Batch]:
        """Batches with at least ``count`` records in all."""
        deadline = time.monotonic() + timeout
        taken: list[core.Batch] = []
        while sum(map(len, taken)) < count:
            assert time.monotonic() < deadline, f"{sum(map(len, taken))} of {count} records after {timeout} s"
            batch = self.step(max_records=max_records)
            if batch:
                taken.append(batch)
        return taken

    def records(self, count: int, timeout: float = 10.0) -> list[core.Record]:
        return [record for batch in self.batches(count, timeout) for record in batch]

    def assigned(self, count: int, timeout: float = 10.0) -> list[core.Partition]:
        """Poll, dropping records, until exactly this many partitions are assigned."""

        def step() -> list[core.Partition] | None:
            self.step(0.05)
            now = self.client.assignment()
            return now if len(now) == count else None

        return _wait(step, f"{count} partitions are assigned", timeout)

    def leave(self, timeout: float = 5.0) -> bool:
        deadline = time.monotonic() + timeout
        while not self.client.leave(0.1):
            self.answer()
            if time.monotonic() > deadline:
                return False
        return True


@pytest.fixture(autouse=True)
def no_native_leaks() -> Iterator[None]:
    before = core.live_handles()
    yield
    gc.collect()
    _wait(lambda: all(count <= before[kind] for kind, count in core.live_handles().items()), "nothing native is left")


@pytest.fixture
def until() -> Callable[..., Any]:
    return _wait


@pytest.fixture
def topic() -> str:
    return TOPIC


@pytest.fixture
def mock() -> Iterator[core.MockCluster]:
    """One broker, and the topic ``records`` with four partitions."""
    cluster = core.MockCluster(1)
    cluster.set_group_rebalance_delay(0)
    cluster.create_topic(TOPIC, 4)
    yield cluster
    cluster.close()


@pytest.fixture
def make_producer(mock: core.MockCluster) -> Iterator[Callable[..., core.Producer]]:
    """``make_producer(queue_timeout=..., **{"a.property": ...})``."""
    made: list[core.Producer] = []

    def make(queue_timeout: float = 10.0, **conf: str) -> core.Producer:
        defaults = {
            "bootstrap.servers": mock.bootstrap_servers,
            "enable.idempotence": "true",
            "reconnect.backoff.max.ms": "100",
        }
        made.append(core.Producer({**defaults, **conf}, queue_timeout))
        return made[-1]

    make.made = made  # type: ignore[attr-defined]  # for tests that want the last reference
    yield make
    while made:
        made.pop().shut()


@pytest.fixture
def producer(make_producer: Callable[..., core.Producer]) -> core.Producer:
    return make_producer()


@pytest.fixture
def join(mock: core.MockCluster) -> Iterator[Callable[..., Member]]:
    """``join(topics=[...], **{"a.property": ...})``: a member of the group ``readers``."""
    members: list[Member] = []

    def make(topics: list[str] | None = None, **conf: str) -> Member:
        defaults = {
            "bootstrap.servers": mock.bootstrap_servers,
            "group.id": "readers",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": "false",
            "enable.auto.offset.store": "false",
            "topic.metadata.refresh.interval.ms": "1000",
            # Beyond a group's first, each rebalance of the mock's classic group takes the session timeout less 1 s.
            "session.timeout.ms": "2000",
            "heartbeat.interval.ms": "200",
        }
        if conf.get("group.protocol") == "consumer":
            del defaults["session.timeout.ms"], defaults["heartbeat.interval.ms"]
        else:
            defaults["partition.assignment.strategy"] = "cooperative-sticky"
        members.append(Member({**defaults, **conf}, topics or [TOPIC]))
        return members[-1]

    make.members = members  # type: ignore[attr-defined]  # for tests that want the last reference
    yield make
    while members:
        members.pop().client.shut()


@pytest.fixture
def read(join: Callable[..., Member]) -> Callable[..., list[core.Record]]:
    """``read(count)``: the records of the topic from its beginning; fails unless there are at least that many."""

    def read(count: int, topics: list[str] | None = None) -> list[core.Record]:
        member = join(topics, **{"group.id": f"reader-{time.monotonic_ns()}"})
        return member.records(count)

    return read


@pytest.fixture
def run_script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python in a process of its own, with ``core`` imported; it must end in time."""

    def run(code: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        script = "from rdknotify import _rdknotify as core\n" + textwrap.dedent(code)
        return subprocess.run(
            [*STRICT_PYTHON, "-c", script], capture_output=True, text=True, timeout=timeout * PATIENCE, check=False
        )

    return run
