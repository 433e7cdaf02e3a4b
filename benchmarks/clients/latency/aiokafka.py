"""aiokafka: ``send``, ``getmany``."""

from __future__ import annotations

import asyncio

from benchmarks.clients.aiokafka import consumer, producer
from benchmarks.clients.base import Job, roles
from benchmarks.clients.latency.pace import Arrivals, paces, unstamp, value


async def _send(job: Job) -> None:
    async with producer(job) as sender:
        for pace in paces(job):
            while not pace.over:
                for stamp in pace.due():
                    await sender.send(job.topic, value(stamp, job.size))
                await asyncio.sleep(pace.wait())
            await sender.flush()


async def _receive(job: Job) -> None:
    arrivals = Arrivals(job)
    async with consumer(job) as reader:
        while not arrivals.complete.is_set():
            polled = await reader.getmany(timeout_ms=1000, max_records=job.batch)
            arrivals.take(unstamp(record.value) for records in polled.values() for record in records)


def send(job: Job) -> None:
    asyncio.run(_send(job))


def receive(job: Job) -> None:
    asyncio.run(_receive(job))


ROLES = roles(latency_send={"aiokafka": send}, latency_receive={"aiokafka": receive})
