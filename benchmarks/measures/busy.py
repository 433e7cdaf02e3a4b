"""Beside a thread that counts in pure Python: the client's rate, and how much of its speed that thread keeps (P2)."""

from __future__ import annotations

from functools import partial

from benchmarks.clients import OURS
from benchmarks.clients.base import Figures
from benchmarks.harness import Stage

PRODUCERS = {
    OURS: 500_000,
    "confluent produce_batch": 10_000,
    "confluent produce": 10_000,
    "aiokafka": 50_000,
}
"""With the records of a run flat out: the peers manage some 10 thousand a second then."""
CONSUMERS = {OURS: 500_000, "confluent consume": 250_000}
RATE = 50_000
DUE = {OURS: 100_000, "confluent produce_batch": 10_000, "confluent produce": 10_000, "aiokafka": 50_000}
"""Records at that rate; who cannot hold it takes longer for fewer."""
TURN = 500
"""Records that are due at a time, which is every 10 ms; nobody sleeps for less while another thread has the GIL."""


def measure(stage: Stage) -> None:
    flat_out = {
        client: partial(_produce, stage, client, stage.plan.records(records)) for client, records in PRODUCERS.items()
    }
    stage.alternate("busy", "flat out", flat_out)
    on_schedule = {
        client: partial(_produce, stage, client, stage.plan.records(records), rate=RATE, batch=TURN)
        for client, records in DUE.items()
    }
    stage.alternate("busy", f"{RATE}/s", on_schedule)
    with stage.backlog(stage.plan.records(max(CONSUMERS.values()))) as topic:
        consumers = {
            client: partial(stage.consume, client, stage.job(topic, stage.plan.records(records), busy=True))
            for client, records in CONSUMERS.items()
        }
        stage.alternate("busy", "consume flat out", consumers)


def _produce(stage: Stage, client: str, records: int, **more: int) -> Figures:
    with stage.topic() as topic:
        return stage.produce(client, stage.job(topic, records, busy=True, **more))
