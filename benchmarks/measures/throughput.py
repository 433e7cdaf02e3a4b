"""How many records a second, and for how much CPU: every client, producing and consuming (P1 and P3)."""

from __future__ import annotations

from functools import partial

from benchmarks.clients import LIMIT, OURS
from benchmarks.clients.base import Figures
from benchmarks.harness import Stage

PRODUCERS = {
    LIMIT: 500_000,
    OURS: 500_000,
    "confluent produce_batch": 500_000,
    "confluent produce": 500_000,
}
"""With the records of a run: a slow client's rate is as steady with fewer."""
CONSUMERS = {
    LIMIT: 1_000_000,
    OURS: 1_000_000,
    "confluent consume": 1_000_000,
    "confluent poll": 500_000,
    "confluent consume, its defaults": 250_000,
}
COMPRESSIONS = ("none", "lz4")


def measure(stage: Stage) -> None:
    for compression in COMPRESSIONS:
        producers = {
            client: partial(_produce, stage, client, stage.plan.records(records), compression)
            for client, records in PRODUCERS.items()
        }
        stage.alternate("produce", compression, producers)
        with stage.backlog(stage.plan.records(max(CONSUMERS.values())), compression=compression) as topic:
            consumers = {
                client: partial(stage.consume, client, stage.job(topic, stage.plan.records(records)))
                for client, records in CONSUMERS.items()
            }
            stage.alternate("consume", compression, consumers)


def _produce(stage: Stage, client: str, records: int, compression: str) -> Figures:
    with stage.topic() as topic:
        return stage.produce(client, stage.job(topic, records, compression=compression))
