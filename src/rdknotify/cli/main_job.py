"""The main job, shown and checked: notifications through Kafka into a database, nothing lost and nothing
twice.

Real notifications of Nova are sent by a :class:`~rdknotify.Notifier`, taken by two members of one group, each
a :class:`~rdknotify.Persister`, and stored in SQLite; then the database is compared with what was sent, id by
id.
"""

from __future__ import annotations

import itertools
import logging
import math
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from rdknotify.errors import ConfigError, DeliveryError, KafkaError, Timeout
from rdknotify.notifier import Notifier
from rdknotify.persister import Persister
from rdknotify.producer import Producer
from rdknotify.sinks import Span
from rdknotify.sinks.sqlite import SQLiteSink
from rdknotify.testing import MockCluster
from rdknotify.testing.data import nova_notifications
from rdknotify.topics import TopicPartition, notification_topic
from rdknotify.url import TransportURL

__all__ = ["run"]

log = logging.getLogger(__name__)

MEMBERS = 2
PARTITIONS = {"info": 16, "error": 4}
"""Topics by priority: what Nova's notifications have, nine of ten of them ``info``."""

WINDOW = 5_000
"""Notifications sent and not stored yet, at the most: a sender that ran ahead would fill the embedded broker,
which keeps 5 MiB a partition, and the times would show its lead only.
"""

CHUNK = 250
STALLED = 20.0
"""Seconds without a row stored after which the rest is given up."""

OK, FAILED, INTERRUPTED = 0, 1, 130


_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


@dataclass
class _Tally:
    """What the run did; ``sent`` has the message id of every notification."""

    sent: list[str] = field(default_factory=list)
    undelivered: int = 0
    stored: int = 0
    distinct: int = 0
    lost: int = 0
    unknown: int = 0
    seconds: float = 0.0
    stalled: bool = False
    latencies: list[float] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        return not (self.lost or self.unknown or self.stalled) and self.stored == self.distinct == len(self.sent)


class _Stalled(Exception):
    """Nothing was stored for too long."""


class _TimedSink(SQLiteSink):
    """Notes when rows were committed, beside the time of sending that each notification has in it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._commits: list[tuple[float, list[str]]] = []

    def store(self, group: str, rows: Sequence[tuple[Any, ...]], spans: Mapping[TopicPartition, Span]) -> int:
        new = super().store(group, rows, spans)
        self._commits.append((time.time(), [row[1] for row in rows]))
        return new

    def latencies(self) -> list[float]:
        """Seconds from sending to commit of each row, shortest first."""
        return sorted(
            committed - datetime.fromisoformat(sent).replace(tzinfo=timezone.utc).timestamp()
            for committed, times in self._commits
            for sent in times
        )


def run(kafka: str | None, count: int, keep: Path | None, console: Console) -> int:
    """Run the main job with ``count`` notifications; returns the exit status.

    Without ``kafka`` (``host:port`` or a transport URL) on the embedded broker. Ctrl-C cleans up and returns 130.
    """
    tally = _Tally()
    try:
        with ExitStack() as stack:
            path = _database(keep, stack)
            topic = f"rdknotify-demo-{uuid.uuid4().hex[:8]}"
            url, config = _broker(kafka, topic, stack)
            where = "the embedded broker" if kafka is None else url.bootstrap_servers
            console.print(f"{count:,} notifications -> {where} -> {MEMBERS} persisters -> {keep or 'SQLite'}")
            sink = _TimedSink(path)
            with Progress(*_COLUMNS, console=console) as progress:
                _Job(url, topic, config, sink, tally, progress).run(count)
            _compare(path, tally)
            tally.latencies = sink.latencies()
    except KeyboardInterrupt:
        console.print(f"[yellow]interrupted[/]: {len(tally.sent):,} sent; everything was stopped and cleaned up")
        return INTERRUPTED
    console.print(_table(tally))
    if tally.exact:
        console.print("[green]exactly once[/]")
        return OK
    if tally.stalled:
        console.print(f"[red]given up: nothing was stored for {STALLED:g} s[/]")
    console.print("[red]the database does not hold what was sent[/]")
    return FAILED


# -- the stage -----------------------------------------------------------------------------------------------


def _database(keep: Path | None, stack: ExitStack) -> Path:
    if keep is None:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rdknotify-demo-", ignore_cleanup_errors=True))
        return Path(folder) / "demo.db"
    if keep.exists():
        raise ConfigError(f"--keep {keep}: is there already; name a file that is not")
    return keep


def _broker(kafka: str | None, topic: str, stack: ExitStack) -> tuple[TransportURL, dict[str, Any]]:
    """The broker to use, with the topics made, and its consumers' properties; the stack takes all away again."""
    if kafka is None:
        return _embedded(topic, stack)
    url = TransportURL.parse(kafka if "://" in kafka else f"kafka://{kafka}")
    names = {notification_topic(topic, priority, url.virtual_host): count for priority, count in PARTITIONS.items()}
    admin = stack.enter_context(closing(Producer(url)))
    stack.callback(_delete, admin, list(names))
    for error in admin.create_topics([(name, count, -1, {}) for name, count in names.items()]):
        if error is not None:
            raise error
    return url, {}


def _delete(admin: Producer, names: list[str]) -> None:
    try:
        refusals = admin.delete_topics(names)
    except KafkaError as error:
        refusals = [error] * len(names)
    for name, refusal in zip(names, refusals, strict=True):
        if refusal is not None and refusal.name != "UNKNOWN_TOPIC_OR_PART":
            log.warning("topic %s is left behind: %s", name, refusal)


def _embedded(topic: str, stack: ExitStack) -> tuple[TransportURL, dict[str, Any]]:
    # Both members join in the first round; a further one would take as long as a session.
    cluster = stack.enter_context(MockCluster(rebalance_delay=0.3))
    for priority, count in PARTITIONS.items():
        cluster.create_topic(notification_topic(topic, priority), count)
    # It answers a fetch that found nothing only when its time is over; a real broker does as soon as a record comes.
    return TransportURL.parse(cluster.url), {
        "fetch.wait.max.ms": 20,
        "session.timeout.ms": 3000,
        "heartbeat.interval.ms": 300,
    }


# -- the job -------------------------------------------------------------------------------------------------


class _Job:
    """One sender and the persisters, watched by the thread that sends."""

    def __init__(
        self,
        url: TransportURL,
        topic: str,
        config: dict[str, Any],
        sink: SQLiteSink,
        tally: _Tally,
        progress: Progress,
    ) -> None:
        self._url, self._topic, self._config = url, topic, config
        self._sink, self._tally, self._progress = sink, tally, progress
        self._sending = progress.add_task("sent", total=None)
        self._storing = [
            progress.add_task(f"stored by member {number}", total=None) for number in range(1, MEMBERS + 1)
        ]
        self._members: list[Persister] = []
        self._stored = 0
        self._advanced = time.monotonic()

    def run(self, count: int) -> None:
        for task in (self._sending, *self._storing):
            self._progress.update(task, total=count)
        with ExitStack() as stack:
            topics = [notification_topic(self._topic, priority, self._url.virtual_host) for priority in PARTITIONS]
            for _ in range(MEMBERS):
                member = Persister(
                    self._url, topics, group=self._topic, sink=self._sink,
                    config=self._config,
                    batch_size=1000, max_wait=0.1, give_up_after=5.0, stop_timeout=8.0,
                )  # fmt: skip
                self._members.append(stack.enter_context(member))
            notifier = Notifier(self._url, "nova-compute:demo", [self._topic])
            stack.callback(self._give_up, notifier)
            try:
                self._wait_until(lambda: all(member.partitions for member in self._members))
                begun = time.monotonic()
                self._send(notifier, count)
                self._wait_until(lambda: self._stored >= count - self._tally.undelivered)
                self._tally.seconds = time.monotonic() - begun
            except _Stalled:
                self._tally.stalled = True

    def _send(self, notifier: Notifier, count: int) -> None:
        source = itertools.islice(itertools.cycle(nova_notifications()), count)
        sent = self._tally.sent
        while chunk := list(itertools.islice(source, CHUNK)):
            for one in chunk:
                send = getattr(notifier, one["priority"])
                sent.append(send({"request_id": f"req-{len(sent)}"}, one["event_type"], one["payload"]))
            self._wait_until(lambda: len(sent) - self._stored <= WINDOW)
        try:
            notifier.flush(STALLED)
        except Timeout:
            raise _Stalled from None
        except DeliveryError as error:
            self._note(error)

    def _note(self, error: DeliveryError) -> None:
        self._tally.undelivered += len(error.undelivered) + error.dropped

    def _give_up(self, notifier: Notifier) -> None:
        """Close at once: everything was flushed, or after an error or Ctrl-C is of no more use."""
        try:
            notifier.close(0)
        except DeliveryError as error:
            self._note(error)
        except Timeout:
            pass  # its DeliveryError has been raised before

    def _wait_until(self, done: Callable[[], bool]) -> None:
        """Show the progress until ``done``; raises what ended a member, and _Stalled."""
        self._look()
        while not done():
            if time.monotonic() - self._advanced > STALLED:
                raise _Stalled
            time.sleep(0.01)
            self._look()

    def _look(self) -> None:
        stored = 0
        for member, task in zip(self._members, self._storing, strict=True):
            member.wait(0)
            counts = member.counts
            stored += counts.stored
            self._progress.update(task, completed=counts.stored)
        self._progress.update(self._sending, completed=len(self._tally.sent))
        if stored > self._stored:
            self._stored, self._advanced = stored, time.monotonic()


# -- the verdict ---------------------------------------------------------------------------------------------


def _compare(path: Path, tally: _Tally) -> None:
    with closing(sqlite3.connect(path)) as database:
        found = [row[0] for row in database.execute("SELECT message_id FROM notifications")]
    sent, there = set(tally.sent), set(found)
    tally.stored, tally.distinct = len(found), len(there)
    tally.lost, tally.unknown = len(sent - there), len(there - sent)


def _table(tally: _Tally) -> Table:
    table = Table(show_header=False, box=None)
    rate = tally.stored / tally.seconds if tally.seconds else 0.0
    figures = {
        "sent": f"{len(tally.sent):,}",
        "delivered": f"{len(tally.sent) - tally.undelivered:,}",
        "stored": f"{tally.stored:,}",
        "distinct": f"{tally.distinct:,}",
        "lost": f"{tally.lost:,}",
        "duplicated": f"{tally.stored - tally.distinct:,}",
        "notifications/s": f"{rate:,.0f}",
        "end to end p50": _milliseconds(tally.latencies, 0.50),
        "end to end p99": _milliseconds(tally.latencies, 0.99),
    }
    for name, figure in figures.items():
        table.add_row(name, Text(figure, justify="right"))
    return table


def _milliseconds(latencies: Sequence[float], quantile: float) -> str:
    """The quantile of sorted seconds."""
    if not latencies:
        return "-"
    return f"{latencies[math.ceil(quantile * len(latencies)) - 1] * 1000:,.0f} ms"
