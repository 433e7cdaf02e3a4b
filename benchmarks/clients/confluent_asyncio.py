"""confluent-kafka's producer for asyncio, which gathers records into batches for `produce_batch` in a thread."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from confluent_kafka.aio import AIOProducer

from benchmarks.clients.base import Job, pauses, roles, stopwatch
from benchmarks.setting import IN_FLIGHT, librdkafka_producing


async def _produce(job: Job) -> None:
    value = job.value
    config = {"bootstrap.servers": job.brokers, **librdkafka_producing(job.compression)}
    async with AIOProducer(config, batch_size=job.batch) as producer:
        first = await producer.produce(job.topic, value)
        await producer.flush(30)
        first.result()
        pending: deque[asyncio.Future[Any]] = deque()
        with stopwatch(job):
            for pause in pauses(job):
                if pause:
                    await asyncio.sleep(pause)
                for _ in range(job.batch):
                    pending.append(await producer.produce(job.topic, value))
                _look_at_done(pending)
                while len(pending) > IN_FLIGHT - job.batch:  # a full queue would fail the futures of what is too much
                    await producer.poll(0.1)
                    _look_at_done(pending)
            await producer.flush(60)
            while pending:
                pending.popleft().result()


def _look_at_done(pending: deque[asyncio.Future[Any]]) -> None:
    """Raises what kept a record from being delivered."""
    while pending and pending[0].done():
        pending.popleft().result()


def produce(job: Job) -> None:
    """`produce`, a future for each record."""
    asyncio.run(_produce(job))


ROLES = roles(produce={"confluent asyncio": produce})
