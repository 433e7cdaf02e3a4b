"""``rdknotify listen``: what goes over the topics, for people and for pipes."""

from __future__ import annotations

import re
import select
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from rdknotify.cli import output
from rdknotify.cli.connection import Connection, connected
from rdknotify.cli.durations import MOMENT
from rdknotify.cli.interrupts import Interrupts
from rdknotify.cli.output import Exit
from rdknotify.cli.show import notification_json, notification_text, record_json, record_text
from rdknotify.consumer import Consumer
from rdknotify.dispatch import NotificationFilter
from rdknotify.envelope import Notification, decode
from rdknotify.errors import CommitFailed, ConfigError, EnvelopeError
from rdknotify.tail import Tail
from rdknotify.topics import PRIORITIES, check_name, notification_topic

if TYPE_CHECKING:
    from rdknotify._rdknotify import Record
    from rdknotify.consumer import Batch

__all__ = ["command"]

_SLICE = 0.2
"""Seconds after which a closed pipe, a signal or the end of patience is noticed."""
_BATCH = 500
_EMBEDDED_END = 1.0
"""Seconds of silence after which the embedded broker has shown all that it holds: nobody else can send to it."""
_TOLD = 5
"""Records that are no notifications of which each is told."""
_PLACES = 10
"""Partitions that the last line names."""


@click.command("listen")
@connected
@click.option("--topic", "topics", multiple=True, help="Notification topic, without priority; may be repeated. "
              "With --raw a topic's whole name, or a regular expression that begins with ^.")  # fmt: skip
@click.option("--priority", "priorities", multiple=True, type=click.Choice(PRIORITIES),
              help="Only these; may be repeated. [default: all]")  # fmt: skip
@click.option("--filter", "filters", multiple=True, metavar="NAME=REGEX",
              help="event_type, publisher_id, payload.KEY or ctxt.KEY must match from its beginning; each of several.",
              )  # fmt: skip
@click.option("--since", metavar="TIME", type=MOMENT, help="Begin there, as '10 minutes ago'.")
@click.option("--pool", help="Share the notifications with the other members of this pool, and commit what was shown.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="End when nothing has come for so long.")  # fmt: skip
@click.option("--raw", is_flag=True, help="Records as they are: topic, partition, offset, key, headers, value.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines, as in a pipe; `rdknotify send` takes them again.")
@click.pass_context
def command(context: click.Context, /, connection: Connection, **given: Any) -> None:
    """Show notifications as they come, until Ctrl-C.

    Without --pool nothing is taken from anybody, and nothing stays behind: what is shown is what comes from now on, or
    since --since. With --pool it goes on where the pool has stopped.

    \b
    rdknotify listen --filter 'event_type=compute\\.instance\\.'
    rdknotify listen --since '1 hour ago' --timeout 5 | jq .payload
    """
    context.exit(_run(connection, _Given(**given)))


@dataclass(frozen=True)
class _Given:
    """The command's options."""

    topics: tuple[str, ...]
    priorities: tuple[str, ...]
    filters: tuple[str, ...]
    since: float | None
    pool: str | None
    count: int | None
    timeout: float | None
    raw: bool
    as_json: bool

    def __post_init__(self) -> None:
        if self.raw and (self.filters or self.priorities):
            raise click.UsageError("--raw shows records as they are: leave out --filter and --priority")
        if self.pool is not None and self.since is not None:
            raise click.UsageError("--since: leave it out, as a --pool goes on where it has stopped")

    def subscription(self, connection: Connection) -> list[str]:
        """The names of topics. Raises UsageError and ConfigError."""
        if self.raw and self.topics:
            return [_name_or_pattern(topic) for topic in self.topics]
        vhost = connection.url.virtual_host
        return [
            notification_topic(topic, priority, vhost)
            for topic in self.topics or connection.topics
            for priority in self.priorities or PRIORITIES
        ]


def _name_or_pattern(topic: str) -> str:
    if not topic.startswith("^"):
        return check_name(topic)
    try:
        re.compile(topic)
    except re.error as error:
        raise click.UsageError(f"--topic: {topic!r} is not a regular expression: {error}") from None
    return topic


def _filter(text: str) -> NotificationFilter:
    """A filter of NAME=REGEX, as endpoints have them. Raises UsageError."""
    name, equals, pattern = text.partition("=")
    field, _, key = name.partition(".")
    try:
        if equals and name in ("event_type", "publisher_id"):
            return NotificationFilter(**{name: pattern})  # type: ignore[arg-type]
        if equals and key and field in ("payload", "ctxt"):
            return NotificationFilter(**{"payload" if field == "payload" else "context": {key: pattern}})  # type: ignore[arg-type]
    except ConfigError as error:
        raise click.UsageError(f"--filter: {error}") from None
    raise click.UsageError(
        f"--filter {text!r}: write NAME=REGEX, NAME being event_type, publisher_id, payload.KEY or ctxt.KEY"
    )


def _run(connection: Connection, given: _Given) -> Exit:
    if connection.cluster is not None and given.timeout is None:
        given = replace(given, timeout=_EMBEDDED_END)
    show = _Show(given.raw, not given.as_json and output.out.is_terminal, [_filter(text) for text in given.filters])
    with ExitStack() as stack:
        source = stack.enter_context(_source(connection, given))
        interrupts = stack.enter_context(Interrupts())
        try:
            _listen(source, given, show, interrupts)
        finally:
            if not isinstance(sys.exc_info()[1], BrokenPipeError):
                output.tell(show.closing())
    return interrupts.status or Exit.DONE


def _source(connection: Connection, given: _Given) -> Consumer:
    """Who reads: beside all groups, or as a member of a pool."""
    topics, arguments = given.subscription(connection), connection.arguments("consumer")
    if given.pool is not None:
        return Consumer(connection.url, topics, given.pool, **arguments)
    if connection.cluster is None:
        tail = Tail(connection.url, topics, since=given.since, **{**arguments, "start": "latest"})
    else:  # what it holds has come just now, and it does not look up times
        tail = Tail(connection.url, topics, **{**arguments, "start": "earliest"})
    if not tail.assignment():
        names = ", ".join(topics)
        output.tell(f"no topic of these is there, or this user may not see it; waiting for them: {names}")
    elif output.err.is_terminal and given.timeout is None:
        begin = "what comes from now on" if given.since is None else "what has come since then"
        output.tell(f"listening: {begin} is shown, until Ctrl-C")
    return tail


def _listen(source: Consumer, given: _Given, show: _Show, interrupts: Interrupts) -> None:
    reader = _Reader()
    last = time.monotonic()
    while not interrupts and (given.count is None or show.shown < given.count):
        limit = _BATCH if given.count is None else min(_BATCH, given.count - show.shown)
        batch = source.poll(limit, _SLICE)
        if batch:
            show(batch)
            if given.pool is not None:
                try:
                    batch.commit()
                except CommitFailed as error:
                    output.tell(f"warning: the pool will see some again: {error}", "yellow")
            last = time.monotonic()
        elif given.timeout is not None and time.monotonic() - last >= given.timeout:
            return
        reader.check()


class _Show:
    """Prints what is in a batch, and knows how far that was."""

    def __init__(self, raw: bool, pretty: bool, filters: list[NotificationFilter]) -> None:
        self._raw, self._pretty, self._filters = raw, pretty, filters
        self.shown = self._poison = 0
        self.reached: dict[tuple[str, int], int] = {}
        """The offset after the last record of each partition."""

    def __call__(self, batch: Batch) -> None:
        lines = [line for line in map(self._line, batch) if line is not None]
        if self._pretty:
            for line in lines:
                output.out.print(line)
        else:
            sys.stdout.buffer.write(b"".join(lines))
            sys.stdout.buffer.flush()
        self.shown += len(lines)
        self.reached |= {(topic, partition): offset for topic, partition, offset, _ in batch.positions()}

    def closing(self) -> str:
        """How many there were, and where reading would go on."""
        places = [f"{topic}[{partition}]@{offset}" for (topic, partition), offset in sorted(self.reached.items())]
        more = f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
        poison = f", {self._poison:,} were no notifications" if self._poison else ""
        where = f"; stopped before {', '.join(places[:_PLACES])}{more}" if places else ""
        return f"{self.shown:,} shown{poison}{where}"

    def _line(self, record: Record) -> Any:
        if self._raw:
            return record_text(record, output.out.width) if self._pretty else record_json(record)
        try:
            notification = decode(record.value or b"")
        except EnvelopeError as error:
            self._poison += 1
            if self._poison <= _TOLD:
                place = f"{record.topic}[{record.partition}]@{record.offset}"
                output.tell(f"{place}: not a notification: {error}; --raw shows it", "yellow")
            return None
        if not all(_lets_through(each, notification) for each in self._filters):
            return None
        if self._pretty:
            return notification_text(notification, output.out.width)
        return notification_json(record, notification)


def _lets_through(screen: NotificationFilter, notification: Notification) -> bool:
    return screen.match(
        notification.context, notification.publisher_id, notification.event_type, {}, notification.payload
    )


class _Reader:
    """Whoever reads our standard output: notices at once when nobody does any more."""

    def __init__(self) -> None:
        self._poll = select.poll()
        with suppress(OSError, ValueError):  # not a file
            self._poll.register(sys.stdout.fileno(), 0)

    def check(self) -> None:
        """Raises BrokenPipeError."""
        if self._poll.poll(0):
            raise BrokenPipeError
