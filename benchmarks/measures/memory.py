"""How much memory 100,000 records in flight take while the broker is down, and whether it stays so (P8).

Figures, in bytes of the process: ``before``, ``after_fill``, ``after_hold`` (a minute later), ``samples`` (each
second), ``growth`` from the fill on, ``each`` (what one record takes). ``refused`` counts what found no room meanwhile,
which has to be all that was tried; ``delivered`` and ``failed`` what became of all when the broker was back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import click

from benchmarks.clients import OURS
from benchmarks.clients.base import Figures, Job
from benchmarks.harness import Failed, Stage, ended, go, reached
from rdknotify.testing import LocalKafka

CLIENTS = (OURS,)
RECORDS = 100_000
DOWN_SECONDS = 60.0
QUICK_DOWN_SECONDS = 3.0


def measure(stage: Stage) -> None:
    if not isinstance(stage.kafka, LocalKafka):
        click.echo("memory: skipped: needs a broker of our own, which can be stopped", err=True)
        return
    seconds = QUICK_DOWN_SECONDS if stage.plan.quick else DOWN_SECONDS
    for client in CLIENTS:
        with stage.topic() as topic:
            job = stage.job(topic, RECORDS, more={"hold": seconds})
            figures = held(stage, client, job)
        figures["growth"] = figures["after_hold"] - figures["after_fill"]
        if figures["further"] or not figures["refused"]:
            raise Failed(f"{client}: {figures['further']} records beyond the {RECORDS} allowed ones were taken")
        stage.record("memory", client, f"broker down {seconds:g}", 1, figures)


@contextmanager
def _down(kafka: LocalKafka) -> Iterator[None]:
    """Paused, so that it is as warm afterwards as before; to its clients it is a broker that says nothing any more."""
    kafka.pause()
    try:
        yield
    finally:
        kafka.heal()


def held(stage: Stage, client: str, job: Job) -> Figures:
    """A client's figures, which filled its queue while nothing was taken, and delivered it. Raises Failed."""
    with stage.started(client, "hold", job) as process:
        reached(process)
        with _down(stage.kafka) if isinstance(stage.kafka, LocalKafka) else nullcontext():
            go(process)
            reached(process)
        go(process)
        figures = ended(process)
    settled = figures["delivered"] + figures["failed"]
    stored = stage.on_log(job.topic, job.partitions) - figures["warming"]
    if settled != figures["records"] or not figures["delivered"] <= stored <= figures["records"]:
        raise Failed(f"{client}: {figures['records']} records sent, {settled} outcomes, {stored} on the log: {figures}")
    figures["each"] = (figures["after_fill"] - figures["before"]) / job.records
    return figures
