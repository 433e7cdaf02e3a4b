"""Several threads that share a producer, and a member of a group that shares a backlog."""

from __future__ import annotations

import select
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import rdknotify
from benchmarks.clients.base import Job, roles, stopwatch
from benchmarks.clients.ours import consuming, deliver
from benchmarks.setting import librdkafka_producing


def produce_in_threads(job: Job) -> None:
    """``job.more["threads"]`` threads send as many records each, all together ``job.records``."""
    threads: int = job.more["threads"]
    share = replace(job, records=job.records // threads)
    with rdknotify.Producer(f"kafka://{job.brokers}", config=librdkafka_producing(job.compression)) as producer:
        producer.send(job.topic, job.value).result(30)
        with ThreadPoolExecutor(threads) as pool, stopwatch(job):
            delivered = sum(pool.map(lambda _: deliver(producer, share), range(threads)))
    assert delivered == job.records, f"{delivered} of {job.records} delivered"


def share(job: Job) -> None:
    """One of ``job.more["members"]`` members: once all have their share, each reads its own from the beginning."""
    partitions = job.partitions // job.more["members"]
    with rdknotify.Consumer(f"kafka://{job.brokers}", [job.topic], job.group, config=consuming(job)) as consumer:
        while len(consumer.assignment()) != partitions:
            consumer.poll(1, timeout=0.05)
        print("assigned", flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:  # others may still be joining
            consumer.poll(1, timeout=0.05)
        sys.stdin.readline()
        owned = sorted(consumer.assignment())
        owed = sum(consumer.lag().values()) + sum(offset or 0 for offset in consumer.position().values())
        taken = 0
        with stopwatch(job) as figures:
            for topic, partition in owned:
                consumer.seek(topic, partition, 0)
            while taken < owed:
                taken += len(consumer.poll(job.batch, timeout=10).values())
            figures["records"] = taken
            figures["partitions"] = [partition for _, partition in owned]
        sys.stdin.readline()  # who left now would give its partitions to the others


ROLES = roles(produce_in_threads={"rdknotify": produce_in_threads}, share={"rdknotify": share})
