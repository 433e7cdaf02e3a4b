"""aiokafka: the protocol in Python with records in Cython, for asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.clients.base import Job, pauses, roles, stopwatch
from benchmarks.setting import BATCH_BYTES, IN_FLIGHT, python_consuming, python_producing

Pending = deque[asyncio.Future[Any]]


def producer(job: Job) -> AIOKafkaProducer:
    """To be made in a running loop, and started."""
    return AIOKafkaProducer(**python_producing(job.brokers, job.compression), max_batch_size=BATCH_BYTES)


def consumer(job: Job) -> AIOKafkaConsumer:
    """As :func:`producer`."""
    return AIOKafkaConsumer(job.topic, **python_consuming(job.brokers, job.group))


async def _produce_batches(job: Job) -> None:
    """The application fills batches and chooses partitions; one future for a batch."""
    value, most = job.value, max(1, IN_FLIGHT // job.batch)
    async with producer(job) as sender:
        await sender.send_and_wait(job.topic, value)
        pending: Pending = deque()
        with stopwatch(job):
            for turn, pause in enumerate(pauses(job)):
                if pause:
                    await asyncio.sleep(pause)
                batch = sender.create_batch()
                for _ in range(job.batch):
                    batch.append(key=None, value=value, timestamp=None)
                assert batch.record_count() == job.batch, "a batch takes fewer records"
                batch.close()
                pending.append(await sender.send_batch(batch, job.topic, partition=turn % job.partitions))
                await _settle(pending, most - 1)
            await _settle(pending, 0)


async def _produce_each(job: Job) -> None:
    """A future for each record."""
    value = job.value
    async with producer(job) as sender:
        await sender.send_and_wait(job.topic, value)
        pending: Pending = deque()
        with stopwatch(job):
            for pause in pauses(job):
                if pause:
                    await asyncio.sleep(pause)
                for _ in range(job.batch):
                    pending.append(await sender.send(job.topic, value))
                await _settle(pending, IN_FLIGHT - job.batch)
            await _settle(pending, 0)


async def _settle(pending: Pending, most: int) -> None:
    """Look at what is done, and wait until no more than so many are not. Raises what kept one from being delivered."""
    while pending and (pending[0].done() or len(pending) > most):
        await pending.popleft()


async def _consume(job: Job) -> None:
    async with consumer(job) as reader:
        taken = 0
        while not taken:
            taken = sum(map(len, (await reader.getmany(timeout_ms=1000, max_records=1)).values()))
        with stopwatch(job):
            while taken < job.records:
                for records in (await reader.getmany(timeout_ms=1000, max_records=job.batch)).values():
                    for record in records:
                        taken += record.value is not None


def produce(job: Job) -> None:
    """`send_batch`, much faster than `send`."""
    asyncio.run(_produce_batches(job))


def produce_each(job: Job) -> None:
    """`send`."""
    asyncio.run(_produce_each(job))


def consume(job: Job) -> None:
    """`getmany`."""
    asyncio.run(_consume(job))


ROLES = roles(produce={"aiokafka": produce, "aiokafka send": produce_each}, consume={"aiokafka": consume})
