"""Does a record cost the same with more topics, partitions, bytes, records a call, threads, members, in flight? (P9)

The measures are named after what grows, their variants ``produce 100`` and ``consume 100`` (``enqueue`` and
``deliver``: a million in flight). Those of sent and read records also have ``bytes``, which a payload's cost is for.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace

from benchmarks.clients import LIMIT, OURS
from benchmarks.clients.base import Figures, Job
from benchmarks.harness import Failed, Stage, go, on_logs, reached
from benchmarks.measures.memory import held
from benchmarks.setting import BATCH, PARTITIONS, RUN_TIMEOUT, SIZE
from rdknotify.testing import LocalKafka

Runner = Callable[[str, Job], Figures]

ROUNDS = 2


@dataclass(frozen=True)
class Load:
    """What is sent by each run at one point of a curve, and how much of it is read."""

    sent: int = 150_000
    read: int = 400_000
    topics: int = 1
    partitions: int = PARTITIONS
    size: int = SIZE
    batch: int = BATCH


@dataclass(frozen=True)
class Curve:
    """One thing that grows."""

    name: str
    producers: Sequence[str]
    consumers: Sequence[str]
    points: Mapping[int, Load]


BYTES = 30_000_000
EVERYBODY = {
    "producers": (LIMIT, OURS, "confluent produce_batch"),
    "consumers": (LIMIT, OURS, "confluent consume"),
}
CURVES = (
    Curve(
        "topics",
        (OURS, "confluent produce_batch"),
        (OURS, "confluent consume"),
        {count: Load(topics=count, partitions=1, batch=100, read=1_000_000) for count in (1, 10, 100, 1000)},
    ),
    Curve("partitions", points={count: Load(partitions=count) for count in (1, 10, 100)}, **EVERYBODY),
    Curve(
        "payload",
        points={
            size: Load(sent=BYTES // size, read=2 * BYTES // size, size=size, batch=min(BATCH, BYTES // size // 10))
            for size in (100, 1_000, 10_000, 100_000)
        },
        **EVERYBODY,
    ),
    Curve(
        "batch",
        points={
            batch: Load(sent=100_000, read=100_000, batch=batch) if batch == 1 else Load(batch=batch)
            for batch in (1, 10, 100, 1_000, 10_000)
        },
        **EVERYBODY,
    ),
)
THREADS = (1, 2, 4)
MEMBERS = (1, 2, 4)
SHARED_PARTITIONS = 8
IN_FLIGHT = 1_000_000


def measure(stage: Stage) -> None:
    for curve in CURVES:
        _climb(stage, curve)
    _threads(stage)
    _members(stage)
    _in_flight(stage)


def _climb(stage: Stage, curve: Curve) -> None:
    """Send at all points, then read what is there."""
    points = dict(list(curve.points.items())[1:2]) if stage.plan.quick else curve.points
    with ExitStack() as stack:
        jobs = {at: _job(stage, load, stack.enter_context(_topics(stage, load))) for at, load in points.items()}
        _alternate(stage, curve.name, "produce", curve.producers, jobs, stage.produce)
        for at, job in jobs.items():
            there = on_logs(job.topics, stage.brokers, job.partitions)
            wanted = stage.plan.records(points[at].read, job.batch)
            jobs[at] = replace(job, records=min(wanted, there))
        _alternate(stage, curve.name, "consume", curve.consumers, jobs, stage.consume)


def _topics(stage: Stage, load: Load) -> AbstractContextManager[list[str]]:
    return stage.topics(load.topics, load.partitions)


def _job(stage: Stage, load: Load, topics: list[str]) -> Job:
    return stage.job(
        topics[0],
        stage.plan.records(load.sent, load.batch),
        size=load.size,
        batch=load.batch,
        partitions=load.partitions,
        more={"topics": topics} if len(topics) > 1 else {},
    )


def _alternate(
    stage: Stage, measure: str, role: str, clients: Sequence[str], jobs: Mapping[int, Job], run: Runner
) -> None:
    """All points and clients in turn, round by round: what disturbs one point then disturbs its neighbours as well."""
    for number in range(1, rounds(stage) + 1):
        for at, job in jobs.items():
            for client in clients:
                figures = run(client, job)
                figures["bytes"] = figures["records"] * job.size
                stage.record(measure, client, f"{role} {at:,}", number, figures)


def rounds(stage: Stage) -> int:
    return min(ROUNDS, stage.plan.runs)


def _threads(stage: Stage) -> None:
    for number in range(1, rounds(stage) + 1):
        for count in THREADS:
            with stage.topic() as topic:
                job = stage.job(topic, stage.plan.records(400_000, 4 * BATCH), more={"threads": count})
                figures = stage.produce(OURS, job, "produce_in_threads")
            stage.record("threads", OURS, f"produce {count}", number, figures)


def _members(stage: Stage) -> None:
    records = stage.plan.records(1_000_000)
    with stage.backlog(records, partitions=SHARED_PARTITIONS) as topic:
        for number in range(1, rounds(stage) + 1):
            for count in MEMBERS:
                job = stage.job(topic, records, partitions=SHARED_PARTITIONS, more={"members": count})
                stage.record("members", OURS, f"consume {count}", number, _shared(stage, count, job))


def _shared(stage: Stage, count: int, job: Job) -> Figures:
    """What members took together, who have to have read everything once."""
    job = replace(job, group=f"benchmark-{uuid.uuid4().hex[:8]}")
    with ExitStack() as stack:
        members = [stack.enter_context(stage.started(OURS, "share", job)) for _ in range(count)]
        for said in (reached, go):  # all have their share before the first begins
            for member in members:
                said(member)
        each: list[Figures] = [json.loads(reached(member)) for member in members]
        for member in members:
            go(member)
            member.wait(RUN_TIMEOUT)
    taken = sum(figures["records"] for figures in each)
    partitions = sorted(partition for figures in each for partition in figures["partitions"])
    if taken != job.records or partitions != list(range(job.partitions)):
        raise Failed(f"{count} members read {taken} of {job.records} records in partitions {partitions}")
    return {
        "records": taken,
        "seconds": max(figures["seconds"] for figures in each),
        "cpu": sum(figures["cpu"] for figures in each),
        "peak": sum(figures["peak"] for figures in each),
        "shares": [figures["records"] for figures in each],
    }


def _in_flight(stage: Stage) -> None:
    """A million records wait while the broker says nothing, or, where it is not ours, because of a long linger."""
    records = stage.plan.records(IN_FLIGHT)
    more = {"linger": not isinstance(stage.kafka, LocalKafka)}
    for number in range(1, rounds(stage) + 1):
        with stage.topic() as topic:
            figures = held(stage, OURS, stage.job(topic, records, more=more))
        if figures["delivered"] != records:
            raise Failed(f"{figures['delivered']} of {records} records in flight were delivered")
        for part in figures["parts"]:
            stage.record("in flight", OURS, f"enqueue {part['at']:,}", number, part)
        stage.record("in flight", OURS, f"deliver {records:,}", number, figures | figures["delivering"])
