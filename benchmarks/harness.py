"""The stage: a broker, topics that come and go, clients in processes of their own, and a list of what they printed.

A measure (``benchmarks/measures``) is a function of a :class:`Stage`; it runs clients and puts down :class:`Run` after
:class:`Run`. A client that fails, takes too long or loses a record ends the benchmark: that is an error, not a figure.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import click

from benchmarks.clients import LIMIT
from benchmarks.clients.base import Figures, Job
from benchmarks.setting import (
    BUILD,
    PARTITIONS,
    ROOT,
    RUN_TIMEOUT,
    SIZE,
    librdkafka_consuming,
    librdkafka_producing,
)
from rdknotify import KafkaError, Producer
from rdknotify._rdknotify import Consumer
from rdknotify.testing.cluster import KafkaCluster, until


class Failed(Exception):
    """A run that is no figure; the text says which client and why."""


@dataclass(frozen=True)
class Plan:
    """How much to do: the full benchmark, or the quick one that only shows that everything works."""

    runs: int = 5
    """Counted runs of each client; one more before them warms up."""
    share: float = 1.0
    """Of the records (and seconds) of the full benchmark."""
    quick: bool = False

    def records(self, full: int, multiple: int = 1000) -> int:
        """This plan's part of so many records, in whole batches."""
        return max(multiple, int(full * self.share) // multiple * multiple)

    def seconds(self, full: float) -> float:
        return max(1.0, full * self.share)


FULL = Plan()
QUICK = Plan(runs=1, share=0.05, quick=True)


@dataclass(frozen=True)
class Run:
    """One counted run of one client, as it stands in the results' file."""

    measure: str
    """``produce``, ``consume``, ``latency``, ``partitions`` ..."""
    client: str
    variant: str
    """What else was different: the compression, the rate, the number of partitions ... ; or nothing."""
    number: int
    """Of the round, from 1: runs of one number were made one after the other and are compared in pairs."""
    figures: Figures


@dataclass
class Stage:
    """Where the measures play. Not thread-safe, but for :meth:`started`."""

    kafka: KafkaCluster
    plan: Plan
    runs: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.admin = Producer(self.kafka.url)

    def close(self) -> None:
        self.admin.close()

    @property
    def brokers(self) -> str:
        return self.kafka.bootstrap_servers

    @cached_property
    def limit(self) -> Path:
        return build_limit()

    @contextmanager
    def topic(self, partitions: int = PARTITIONS, ending: str = "") -> Iterator[str]:
        """A new topic, deleted at the end of the block. Notifications need an ``ending``: ``.info``."""
        with self.topics(1, partitions, ending) as (name,):
            yield name

    @contextmanager
    def topics(self, count: int, partitions: int = PARTITIONS, ending: str = "") -> Iterator[list[str]]:
        """New topics, deleted at the end of the block."""
        mark = uuid.uuid4().hex[:8]
        names = [f"benchmark-{mark}-{number}{ending}" for number in range(count)]
        for refusal in self.admin.create_topics([(name, partitions, -1, {}) for name in names], timeout=60):
            if refusal:
                raise refusal
        try:
            until(lambda: self._led(names, partitions), 60, f"{names[0]} had no leaders")
            yield names
        finally:
            self.admin.delete_topics(names, timeout=60)

    def _led(self, names: list[str], partitions: int) -> bool | None:
        """True once every partition has a leader that answers as such: the metadata names it a little earlier."""
        known = self.admin.metadata(timeout=30)["topics"]
        if any(sum(leader >= 0 for leader in known.get(name, {}).values()) < partitions for name in names):
            return None
        try:
            on_logs(names, self.brokers, partitions)
        except KafkaError as error:
            if error.name not in ("NOT_LEADER_FOR_PARTITION", "UNKNOWN_LEADER_EPOCH"):
                raise
            return None
        return True

    @contextmanager
    def backlog(self, records: int, size: int = SIZE, compression: str = "none", **more: int) -> Iterator[str]:
        """A topic with so many records waiting."""
        partitions = more.get("partitions", PARTITIONS)
        with self.topic(partitions) as topic:
            job = Job(self.brokers, topic, records - 1, size, compression=compression, partitions=partitions)
            self.produce(LIMIT, job)
            yield topic

    def job(self, topic: str, records: int, **more: object) -> Job:
        return replace(Job(self.brokers, topic, records), **more)  # type: ignore[arg-type]

    def run(self, client: str, role: str, job: Job, timeout: float = RUN_TIMEOUT) -> Figures:
        """One run to its end. Raises Failed."""
        with self.started(client, role, job) as process:
            return ended(process, timeout)

    @contextmanager
    def started(self, client: str, role: str, job: Job) -> Iterator[subprocess.Popen[str]]:
        """A client on its way, killed if it is still there at the end of the block; see :func:`ended`."""
        if client == LIMIT:
            command = [str(self.limit), role, *_limit_words(role, job)]
        else:
            command = [sys.executable, "-m", "benchmarks.clients", client, role, json.dumps(asdict(job))]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def produce(self, client: str, job: Job, role: str = "produce") -> Figures:
        """A run whose records are counted on the log. Raises Failed when any is missing or twice."""
        before = on_logs(job.topics, self.brokers, job.partitions)
        figures = self.run(client, role, job)
        stored = on_logs(job.topics, self.brokers, job.partitions) - before
        if stored != (sent := job.records + figures["warming"]):
            raise Failed(f"{client}: {stored} records on the log, {sent} were sent")
        return figures

    def consume(self, client: str, job: Job) -> Figures:
        """A run in a group of its own, which ends only when every record was read. Raises Failed."""
        return self.run(client, "consume", replace(job, group=f"benchmark-{uuid.uuid4().hex[:8]}"))

    def on_log(self, topic: str, partitions: int = PARTITIONS) -> int:
        """How many records a topic has, as the brokers count them."""
        return on_log(topic, self.brokers, partitions)

    def record(self, measure: str, client: str, variant: str, number: int, figures: Figures) -> None:
        """Put down a counted run, and show it."""
        self.runs.append(Run(measure, client, variant, number, figures))
        rate = f"{figures['records'] / figures['seconds']:,.0f}/s" if figures.get("seconds") else ""
        label = " ".join(word for word in (measure, variant) if word)
        click.echo(f"{time.strftime('%H:%M:%S')} {label}, {number}: {client} {rate}", err=True)

    def alternate(self, measure: str, variant: str, clients: Mapping[str, Callable[[], Figures]]) -> None:
        """All clients in turn, round by round; a measure's first round warms all up and is not counted."""
        first = 1 if self.plan.quick or any(run.measure == measure for run in self.runs) else 0
        for number in range(first, self.plan.runs + 1):
            for client, run in clients.items():
                figures = run()
                if number:
                    self.record(measure, client, variant, number, figures)


def ended(process: subprocess.Popen[str], timeout: float = RUN_TIMEOUT) -> Figures:
    """What a client printed last. Raises Failed when it did not end well or in time."""
    name = _name(process)
    try:
        out, said = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failed(f"{name} did not end within {timeout:.0f} s") from None
    if process.returncode:
        raise Failed(f"{name} ended with status {process.returncode}:\n{said[-2000:]}")
    figures: Figures = json.loads(out.splitlines()[-1])
    return figures


def _name(process: subprocess.Popen[str]) -> str:
    assert isinstance(process.args, list)
    return " ".join(word for word in process.args[1:6] if not word.startswith("{"))


def reached(process: subprocess.Popen[str], timeout: float = RUN_TIMEOUT) -> str:
    """The word with which a client says where it is, and waits for :func:`go`. Raises Failed when it says nothing."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], timeout)[0]:
        raise Failed(f"{_name(process)} said nothing for {timeout:.0f} s")
    if not (word := process.stdout.readline().strip()):
        ended(process, timeout)
        raise Failed(f"{_name(process)} ended early")
    return word


def go(process: subprocess.Popen[str], word: str = "") -> None:
    """Let a client go on that waits in :func:`benchmarks.clients.base.meet`."""
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


def _limit_words(role: str, job: Job) -> list[str]:
    phases = ",".join(f"{rate}:{records}" for rate, records in job.more.get("phases", ()))
    words: dict[str, list[object]] = {
        "produce": [job.records, job.size, job.batch, job.partitions],
        "consume": [job.records, job.batch],
        "latency_send": [phases, job.size],
        "latency_receive": [phases, job.batch],
    }
    producing = role in ("produce", "latency_send")
    config = librdkafka_producing(job.compression) if producing else librdkafka_consuming(job.group)
    return [job.brokers, job.topic, *map(str, words[role]), *(f"{name}={value}" for name, value in config.items())]


def on_log(topic: str, brokers: str, partitions: int = PARTITIONS) -> int:
    """How many records a topic has, as the brokers count them."""
    return on_logs([topic], brokers, partitions)


def on_logs(topics: Sequence[str], brokers: str, partitions: int = PARTITIONS) -> int:
    """How many records these topics have together, as the brokers count them."""
    reader = Consumer({"bootstrap.servers": brokers, "group.id": "benchmarks"})
    every = [(topic, partition) for topic in topics for partition in range(partitions)]
    try:
        first, last = (reader.offsets_for_times([(*each, end) for each in every], timeout=30) for end in (-2, -1))
        return sum(last[each] - first[each] for each in every)
    finally:
        reader.shut()


def build_limit() -> Path:
    """Compile ``limit.c`` against the static librdkafka that the extension links."""
    BUILD.mkdir(parents=True, exist_ok=True)
    program = BUILD / "limit"
    built = subprocess.run(
        [sys.executable, str(ROOT / "vendor" / "build.py")], check=True, capture_output=True, text=True
    )
    prefix = Path(built.stdout.strip().splitlines()[-1])
    info = json.loads((prefix / "rdknotify-build.json").read_text())
    archives = [str(prefix / "lib" / name) for name in info["archives"]]
    libraries = [f"-l{name}" for name in info["libraries"]]
    source = str(ROOT / "benchmarks" / "limit.c")
    fresh = program.with_suffix(f".{os.getpid()}")  # another benchmark may be running the old one
    command = ["cc", "-O3", f"-I{prefix / 'include'}", source, *archives, *libraries, "-o", str(fresh)]
    subprocess.run(command, check=True)
    fresh.replace(program)
    return program
