"""``rdknotify persist``: topics into a database, exactly once, watched while it goes on."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from rdknotify.cli import output
from rdknotify.cli.connection import Connection, connected
from rdknotify.cli.interrupts import Interrupts
from rdknotify.cli.output import Exit
from rdknotify.errors import KafkaError, Timeout
from rdknotify.topics import PRIORITIES

if TYPE_CHECKING:
    from rdknotify.persister import Persister
    from rdknotify.sinks import Schema, Sink

__all__ = ["command", "database", "subscription"]

GROUP = "rdknotify-persist"
TABLES = {"notifications": "notifications", "raw": "records", "metrics": "metrics"}
"""The default table of each schema."""
STOP_TIMEOUT = 8.0
"""Seconds that the end may take: to store what is in hand, and to leave the group."""
DATABASE_TIMEOUT = 5.0
LOG_INTERVAL = 10.0
"""Seconds between two lines where nobody looks at a live view."""
_LOOK, _LAG_INTERVAL, _LAG_TIMEOUT = 0.1, 2.0, 1.0
_JOINING = 15.0
"""Seconds that the group may take to give us partitions before --idle begins to count."""
_WINDOW = 5.0
"""Seconds over which the rate is measured."""


@click.command("persist")
@click.argument("topics", nargs=-1)
@connected
@click.option(
    "--into", required=True, metavar="WHERE", help="A file of SQLite or sqlite:///FILE, or postgresql://[user@]host/db."
)
@click.option("--table", help="The table; made if it is missing.  [default: by schema]")
@click.option("--group", help=f"Consumer group: its members share the work.  [default: {GROUP}]")
@click.option(
    "--schema",
    type=click.Choice(list(TABLES)),
    default="notifications",
    show_default=True,
    help="What a row is made of.",
)
@click.option("--batch-size", type=click.IntRange(1), default=5000, show_default=True, help="Most rows a transaction.")
@click.option(
    "--max-wait",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Most seconds until a record is stored.",
)
@click.option(
    "--dead-letter", metavar="TOPIC|FILE",
    help="Where records go that become no row: a topic, or a file if it has a slash (./dead.jsonl).",
)  # fmt: skip
@click.option("--count", type=click.IntRange(1), help="End when at least so many records are dealt with.")
@click.option("--idle", type=click.FloatRange(0, min_open=True), help="End when nothing came for so many seconds.")
@click.pass_context
def command(
    context: click.Context,
    connection: Connection,
    topics: tuple[str, ...],
    into: str,
    table: str | None,
    group: str | None,
    schema: str,
    batch_size: int,
    max_wait: float,
    dead_letter: str | None,
    count: int | None,
    idle: float | None,
) -> None:
    """Store notifications in a database, each exactly once, until Ctrl-C.

    TOPICS are full names, as notifications.info; without any: all priorities of the service's notifications.
    Rows and Kafka's offsets are stored in one transaction, so it may be killed at any time and started again, as
    often as there is work to share. PostgreSQL's password is best given as PGPASSWORD or in ~/.pgpass.

    \b
    rdknotify persist --into notifications.db
    rdknotify persist --into postgresql://nova@db/notifications --dead-letter notifications.dead-letter
    rdknotify persist --into sqlite:///today.db --idle 5      a script: end when there is no more
    """
    from rdknotify.persister import Persister

    if schema != "notifications" and not topics:
        raise click.UsageError(f"--schema {schema}: name the topics, as: rdknotify persist {schema}-topic --schema ...")
    arguments = {**connection.arguments("producer"), **connection.arguments("consumer")}
    persister = Persister(
        connection.url,
        list(topics) or subscription(connection),
        sink=database(into, table or TABLES[schema]),
        group=group or arguments.get("consumer_group") or GROUP,
        schema=_schema(schema),
        batch_size=min(batch_size, count or batch_size),
        max_wait=max_wait,
        dead_letter=dead_letter,
        stop_timeout=STOP_TIMEOUT,
        **arguments,
    )
    context.exit(_Run(persister, dead_letter is not None, count, idle).run())


def subscription(connection: Connection) -> list[str]:
    """The topics of the service's notifications, of all priorities that are there or come into being."""
    vhost = connection.url.virtual_host
    ending = re.escape(f".{vhost}") if vhost else ""
    return [rf"^{re.escape(topic)}\.({'|'.join(PRIORITIES)}){ending}$" for topic in connection.topics]


def database(into: str, table: str) -> Sink:
    """The sink that a URL or a path means. Raises UsageError and ConfigError."""
    scheme, colon, _ = into.partition("://")
    if colon and scheme in ("postgresql", "postgres"):
        from rdknotify.sinks.postgres import PostgresSink

        with suppress(ValueError):
            if urlsplit(into).password is not None:
                output.tell(
                    "warning: everyone on this machine can see the password in --into: set PGPASSWORD, or write it "
                    "into ~/.pgpass",
                    "yellow",
                )
        return PostgresSink(into, table, timeout=DATABASE_TIMEOUT)
    if colon and scheme != "sqlite":
        raise click.UsageError(
            f"--into {scheme}://...: give a file's path, sqlite:///FILE or postgresql://host/database"
        )
    path = into.partition(":///")[2] if colon else into
    if not path:
        raise click.UsageError("--into sqlite:// names no file: write sqlite:///FILE, or sqlite:////FOLDER/FILE")
    from rdknotify.sinks.sqlite import SQLiteSink

    return SQLiteSink(path, table, timeout=DATABASE_TIMEOUT)


def _schema(name: str) -> Schema:
    from rdknotify.sinks import METRIC, NOTIFICATION, RAW

    return {"notifications": NOTIFICATION, "raw": RAW, "metrics": METRIC}[name]


def _show_warnings() -> None:
    """A database that fails for a while is told of by the library's log only."""
    logger = logging.getLogger("rdknotify")
    if all(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        output.show_log(logging.WARNING)
    for handler in logger.handlers:  # what ends it is the command's own last line
        handler.addFilter(lambda record: getattr(record, "rdknotify_event", None) != "failed")


class _Run:
    """One run of the command, watched by the main thread."""

    def __init__(self, persister: Persister, keeps_letters: bool, count: int | None, idle: float | None) -> None:
        self._persister, self._keeps_letters = persister, keeps_letters
        self._count, self._idle = count, idle
        now = time.monotonic()
        self._begun, self._joined, self._moved = now, False, now
        self._received = self._commits = 0
        self._last_commit: float | None = None
        self._lag: int | None = None
        self._lag_due = now
        self._samples: deque[tuple[float, int]] = deque([(now, 0)])

    def run(self) -> Exit:
        with Interrupts() as interrupts:
            self._persister.start()
            _show_warnings()
            try:
                with self._shown() as show:
                    while not (interrupts or self._finished() or self._persister.wait(0)):
                        self._look()
                        show()
                        interrupts.sleep(_LOOK)
            finally:
                self._end()
        return interrupts.status or self._verdict()

    def _look(self) -> None:
        now, counts = time.monotonic(), self._persister.counts
        if not self._joined and self._persister.partitions:
            self._joined, self._moved = True, now
        if counts.received != self._received:
            self._received, self._moved = counts.received, now
        if counts.commits != self._commits:
            self._commits, self._last_commit = counts.commits, now
        self._samples.append((now, self._dealt_with()))
        while now - self._samples[0][0] > _WINDOW:
            self._samples.popleft()
        if now >= self._lag_due:
            with suppress(KafkaError):
                self._lag = sum(self._persister.lag(_LAG_TIMEOUT).values()) if self._joined else None
            self._lag_due = time.monotonic() + _LAG_INTERVAL

    def _dealt_with(self) -> int:
        counts = self._persister.counts
        return counts.stored + counts.duplicates + counts.poison

    def _finished(self) -> bool:
        if self._count is not None and self._dealt_with() >= self._count:
            return True
        quiet = time.monotonic() - self._moved
        return self._idle is not None and quiet >= self._idle + (0 if self._joined else _JOINING)

    def _end(self) -> None:
        try:
            self._persister.close()
        except Timeout as error:
            output.tell(f"{error}; what was in hand is read again next time", "yellow")
        finally:
            output.tell(self._closing_line())

    def _verdict(self) -> Exit:
        if not self._joined and not self._persister.stored:
            output.tell("no partition came to this member: see `rdknotify doctor`, and whether the topics are there")
            return Exit.FAILED
        return Exit.PARTLY if self._persister.counts.poison and not self._keeps_letters else Exit.DONE

    # -- what is shown ---------------------------------------------------------------------------------------

    @contextmanager
    def _shown(self) -> Iterator[Any]:
        """A function to be called again and again."""
        if output.err.is_terminal:
            from rich.live import Live

            with Live(console=output.err, transient=True, refresh_per_second=4, get_renderable=self._table):
                yield lambda: None
            return
        due = time.monotonic() + LOG_INTERVAL

        def line() -> None:
            nonlocal due
            if time.monotonic() >= due:
                due += LOG_INTERVAL
                output.tell(", ".join(f"{name} {figure}" for name, figure in self._figures()))

        yield line

    def _table(self) -> Any:
        from rich.table import Table

        table = Table(box=None, show_header=False)
        for name, figure in self._figures():
            table.add_row(name, figure)
        return table

    def _figures(self) -> Sequence[tuple[str, str]]:
        counts, now = self._persister.counts, time.monotonic()
        waiting = max(0, counts.received - self._dealt_with())
        (before, then), (after, at_last) = self._samples[0], self._samples[-1]
        rate = (at_last - then) / (after - before) if after > before else 0.0
        figures = [
            ("partitions", str(len(self._persister.partitions)) if self._joined else "joining the group"),
            ("stored", f"{counts.stored:,}"),
            ("rate", f"{rate:,.0f}/s"),
            ("lag", "unknown" if self._lag is None else f"{self._lag + waiting:,}"),
            ("last commit", "none yet" if self._last_commit is None else f"{now - self._last_commit:.1f} s ago"),
        ]
        rare = [("duplicates left out", counts.duplicates), (self._poison, counts.poison), ("failures", counts.retries)]
        return figures + [(name, f"{number:,}") for name, number in rare if number]

    @property
    def _poison(self) -> str:
        return "dead letters" if self._keeps_letters else "skipped (no --dead-letter)"

    def _closing_line(self) -> str:
        counts, seconds = self._persister.counts, time.monotonic() - self._begun
        parts = [f"{counts.stored:,} stored in {seconds:.1f} s"]
        if counts.duplicates:
            parts.append(f"{counts.duplicates:,} left out that were there")
        if counts.poison:
            parts.append(f"{counts.poison:,} {self._poison}")
        places = ", ".join(
            f"{topic}-{number} at {offset}" for (topic, number), offset in sorted(self._persister.stored.items())
        )
        return f"{', '.join(parts)}; {f'stopped at {places}' if places else 'nothing was begun'}"
