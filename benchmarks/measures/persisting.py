"""From Kafka into SQLite and into PostgreSQL, beside the same loop by hand (P7)."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import click

from benchmarks.clients import OURS
from benchmarks.clients.base import Figures
from benchmarks.clients.notifying import ENDING, EVENTS, PUBLISHER
from benchmarks.harness import Failed, Stage
from benchmarks.setting import BUILD
from rdknotify import Notifier
from rdknotify.testing.postgres import LocalPostgres, LocalPostgresError, find_postgres

RECORDS = 50_000
BATCH = 5000
"""Rows in a transaction: the persister's default."""
LOOPS = {OURS: "rdknotify persister", "by hand": "by hand", "by hand, orjson": "by hand, orjson"}


def measure(stage: Stage) -> None:
    records = stage.plan.records(RECORDS, BATCH)
    with _backlog(stage, records) as topic:
        sqlite = {name: partial(_sqlite, stage, client, topic, records) for name, client in LOOPS.items()}
        stage.alternate("persisting", "SQLite", sqlite)
        try:
            find_postgres()
        except LocalPostgresError as error:
            click.echo(f"PostgreSQL is left out: {error}", err=True)
            return
        with LocalPostgres() as server:
            postgres = {
                name: partial(_run, stage, client, "postgres", topic, records, dsn=server.dsn)
                for name, client in LOOPS.items()
            }
            stage.alternate("persisting", "PostgreSQL", postgres)


@contextmanager
def _backlog(stage: Stage, records: int) -> Iterator[str]:
    """A topic on which so many notifications of Nova wait."""
    with stage.topic(ending=ENDING) as topic:
        events = islice(cycle(EVENTS["nova"]), records)
        with Notifier(stage.kafka.url, PUBLISHER, [topic.removesuffix(ENDING)]) as notifier:
            while bulk := list(islice(events, BATCH)):
                notifier.notify_batch("info", bulk).result(60).raise_for_failures()
        if (stored := stage.on_log(topic)) != records:
            raise Failed(f"{stored} records of the backlog are on the log, {records} were sent")
        yield topic


def _sqlite(stage: Stage, client: str, topic: str, records: int) -> Figures:
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:  # on a disk, which /tmp may not be
        return _run(stage, client, "sqlite", topic, records, path=str(Path(folder) / "notifications.db"))


def _run(stage: Stage, client: str, role: str, topic: str, records: int, **more: str) -> Figures:
    """One loop in a group of its own, into an empty table."""
    mark = uuid.uuid4().hex[:8]
    more["table"] = f"notifications_{mark}"
    return stage.run(client, role, stage.job(topic, records, batch=BATCH, group=f"benchmark-{mark}", more=more))
