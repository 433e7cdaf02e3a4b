"""How many records a second, and for how much CPU: every client, producing and consuming (P1 and P3)."""

from __future__ import annotations

from functools import partial

import click

from benchmarks.clients import LIMIT, OURS
from benchmarks.clients.base import Figures
from benchmarks.clients.notifying import ENDING
from benchmarks.harness import Stage
from rdknotify.testing.jars import LocalKafkaError, find_jars, find_java

JAVA = "java perf-test"
PRODUCERS = {
    LIMIT: 500_000,
    OURS: 500_000,
    "confluent produce_batch": 500_000,
    "confluent produce": 500_000,
    "confluent asyncio": 150_000,
    "aiokafka": 500_000,
    "aiokafka send": 100_000,
    "kafka-python": 50_000,
    "oslo.messaging kafka": 50_000,
    JAVA: 500_000,
}
"""With the records of a run: a slow client's rate is as steady with fewer."""
CONSUMERS = {
    LIMIT: 1_000_000,
    OURS: 1_000_000,
    "confluent consume": 1_000_000,
    "confluent poll": 500_000,
    "confluent consume, its defaults": 500_000,
    "aiokafka": 500_000,
    "kafka-python": 150_000,
    JAVA: 1_000_000,
}
COMPRESSIONS = ("none", "lz4")


def measure(stage: Stage) -> None:
    missing = _missing()
    for compression in COMPRESSIONS:
        producers = {
            client: partial(_produce, stage, client, stage.plan.records(records), compression)
            for client, records in PRODUCERS.items()
            if client not in missing
        }
        stage.alternate("produce", compression, producers)
        with stage.backlog(stage.plan.records(max(CONSUMERS.values())), compression=compression) as topic:
            consumers = {
                client: partial(stage.consume, client, stage.job(topic, stage.plan.records(records)))
                for client, records in CONSUMERS.items()
                if client not in missing
            }
            stage.alternate("consume", compression, consumers)


def _missing() -> set[str]:
    """A broker elsewhere can be measured without a Java here, but for the peer that needs it."""
    try:
        find_java(), find_jars()
    except LocalKafkaError as error:
        click.echo(f"{JAVA} is left out: {error}", err=True)
        return {JAVA}
    return set()


def _produce(stage: Stage, client: str, records: int, compression: str) -> Figures:
    with stage.topic(ending=ENDING) as topic:  # where notifications of oslo.messaging can go too
        return stage.produce(client, stage.job(topic, records, compression=compression))
