"""``rdknotify send``: notifications and records from arguments, standard input or a file, each with its outcome."""

from __future__ import annotations

import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdknotify.cli import output
from rdknotify.cli.connection import Connection, connected
from rdknotify.cli.output import Exit
from rdknotify.errors import RdNotifyError
from rdknotify.fast_json import dumps, loads
from rdknotify.topics import PRIORITIES, check_name

if TYPE_CHECKING:
    from rdknotify.cli.failures import Resumed
    from rdknotify.cli.forms import Forms
    from rdknotify.cli.sending import Reader, Tally
    from rdknotify.producer import Producer

__all__ = ["command"]

_FORMS = """\b
A line of a file is one of these:
  {"event_type": "...", "payload": ..., "priority": "...", "publisher_id": "...", "ctxt": {...}, "key": "..."}
      a notification; only event_type must be there
  what `rdknotify listen --json` prints
      that notification again, with its message_id, so that readers can drop a twin
  {"topic": "...", "key": "...", "headers": [["name", "value"], ...], "value": "..."}
      a record, to its own topic or to --topic; `rdknotify listen --raw` prints such lines
With --raw it is the value of a record of --topic, as it is. Empty lines are passed over."""

_LINGER = 0.005
"""Seconds that records of many wait for each other."""
_FILE = click.Path(dir_okay=False, path_type=Path, allow_dash=True)


@click.command("send", epilog=_FORMS)
@click.argument("event_type", required=False)
@click.argument("payload", required=False)
@connected
@click.option("--file", "path", metavar="FILE", type=_FILE, help="Send a file's lines; - or nothing: standard input.")
@click.option(
    "--resume", metavar="FILE", type=_FILE, help="Send what --failures wrote and is certainly not on the log."
)
@click.option("--also-possible", is_flag=True, help="With --resume: also what may be on the log, and then is twice.")
@click.option("--raw", is_flag=True, help="Each line, or the argument, is the value of a record, as it is.")
@click.option("--topic", help="Notification topic, without priority; of records the whole name.")
@click.option(
    "--priority", type=click.Choice(PRIORITIES), default="info", show_default=True, help="Where none is said."
)
@click.option("--publisher-id", help="Where none is said; rdknotify:<this host> unless given.")
@click.option("--ctxt", metavar="JSON", help="Context of notifications, where none is said.")
@click.option("--key", help="Key of records, where none is said: what has the same one keeps its order.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Most records a second, evenly.")
@click.option("--failures", metavar="FILE", type=_FILE, help="Append what was not delivered here, for --resume.")
@click.option("--from-line", type=click.IntRange(min=1), default=1, help="Begin with this line of the file.")
@click.option("--strict", is_flag=True, help="Stop at the first line that cannot be read.")
@click.pass_context
def command(context: click.Context, /, connection: Connection, **given: Any) -> None:
    """Send notifications, and say what became of each line.

    \b
    rdknotify send instance.created '{"id": 7}'     one; prints its message id
    rdknotify send --file events.jsonl              a file of any size
    ... | rdknotify send                            lines as they come
    """
    context.exit(_run(connection, _Given(**given)))


@dataclass(frozen=True)
class _Given:
    """The command's arguments and options."""

    event_type: str | None
    payload: str | None
    path: Path | None
    resume: Path | None
    also_possible: bool
    raw: bool
    topic: str | None
    priority: str
    publisher_id: str | None
    ctxt: str | None
    key: str | None
    rate: float | None
    failures: Path | None
    from_line: int
    strict: bool

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.event_type, self.path, self.resume)) > 1:
            raise click.UsageError("give one of EVENT_TYPE, --file and --resume")
        if self.event_type is None and self.path is None and self.resume is None and sys.stdin.isatty():
            raise click.UsageError("nothing to send: give EVENT_TYPE, --file or --resume, or pipe lines into it")
        if self.raw and self.topic is None and self.resume is None:
            raise click.UsageError("--raw: name the records' whole --topic, as notifications.info")
        if self.raw and self.payload is not None:
            raise click.UsageError("--raw: the one argument is the value")
        if self.also_possible and self.resume is None:
            raise click.UsageError("--also-possible goes with --resume")
        if self.failures is not None and self.failures == self.resume:
            raise click.UsageError("--failures: name another file than that of --resume")

    @property
    def bytes_key(self) -> bytes | None:
        return None if self.key is None else self.key.encode()

    @property
    def source(self) -> Path | None:
        """The file; None is standard input."""
        return next((path for path in (self.resume, self.path) if path is not None and str(path) != "-"), None)


def _run(connection: Connection, given: _Given) -> Exit:
    from rdknotify.cli.failures import Failures
    from rdknotify.cli.interrupts import Interrupts
    from rdknotify.cli.lines import Chunk, Lines
    from rdknotify.cli.progress import Progress
    from rdknotify.cli.sending import Pump

    reader, resumed = _reader(given, connection)
    message_id, line = _argument(given)
    with ExitStack() as stack:
        lines = stack.enter_context(Lines(given.source, given.from_line)) if line is None else None
        failures = None if given.failures is None else stack.enter_context(Failures(given.failures))
        producer = stack.enter_context(_producer(connection, many=lines is not None))
        interrupts = stack.enter_context(Interrupts())
        progress = stack.enter_context(Progress(lines.size if lines is not None else None))
        pump = Pump(producer, reader, interrupts, failures, given.rate, given.strict, progress.show)
        begun = time.monotonic()
        try:
            for chunk in lines or (Chunk(1, [line or b""], 0),):
                pump.feed(chunk)
                if pump.stopped:
                    break
        except (RdNotifyError, OSError) as error:
            pump.tally.trouble = str(error)
        pump.finish()
        seconds = time.monotonic() - begun
    tally = pump.tally
    if message_id is not None and tally.delivered:
        click.echo(message_id)
    _tell(tally, given, seconds)
    if resumed is not None and resumed.left_out:
        output.tell(
            f"{resumed.left_out:,} left out, which may be on the log: --also-possible sends them, perhaps twice"
        )
    if pump.stopped:
        _tell_stop(tally, given)
    if interrupts.status is not None:
        return interrupts.status
    if not tally.outcomes and tally.trouble is None:
        return Exit.DONE
    return Exit.PARTLY if tally.delivered else Exit.FAILED


@contextmanager
def _producer(connection: Connection, many: bool) -> Iterator[Producer]:
    """A producer for one record or many; a second Ctrl-C does not wait for what is in flight."""
    from rdknotify.cli.sending import WINDOW
    from rdknotify.producer import Producer

    # The pump has a limit of its own for what is in flight, at which it can be interrupted.
    options: dict[str, float] = {"max_in_flight": 2 * WINDOW}
    if many and not {"linger", "producer_batch_timeout"} & connection.options.keys():
        options["linger"] = _LINGER
    producer = Producer(connection.url, **connection.arguments("producer", **options))
    try:
        yield producer
    except BaseException:
        producer.shut()
        raise
    producer.close()


def _reader(given: _Given, connection: Connection) -> tuple[Reader, Resumed | None]:
    """What makes records of lines. Raises UsageError, ConfigError."""
    from rdknotify.cli.failures import Resumed
    from rdknotify.cli.forms import Made
    from rdknotify.cli.sending import as_they_are, each_line

    if given.raw and given.resume is None:
        return as_they_are(check_name(given.topic or ""), given.bytes_key), None
    forms = _forms(given, connection)
    if given.resume is None:
        return each_line(lambda number, line: (number, line, forms.read(line)), given.strict), None

    def as_it_is(line: bytes) -> Made:
        return Made(check_name(given.topic or ""), line, given.bytes_key)

    # What was a record goes where it was to go.
    record = replace(forms, chosen=False, key=None).record
    resumed = Resumed(as_it_is if given.raw else forms.read, record, given.also_possible)
    return each_line(resumed, given.strict), resumed


def _forms(given: _Given, connection: Connection) -> Forms:
    from rdknotify.cli.forms import Forms

    if given.topic is None and len(connection.topics) > 1:
        raise click.UsageError(f"--topic: choose one of the service's: {', '.join(connection.topics)}")
    ctxt = None if given.ctxt is None else _json("--ctxt", given.ctxt)
    if ctxt is not None and not isinstance(ctxt, dict):
        raise click.UsageError("--ctxt: a JSON object is needed")
    return Forms(
        topic=connection.topics[0] if given.topic is None else given.topic,
        chosen=given.topic is not None,
        virtual_host=connection.url.virtual_host,
        priority=given.priority,
        publisher_id=f"rdknotify:{socket.gethostname()}" if given.publisher_id is None else given.publisher_id,
        key=given.bytes_key,
        ctxt=ctxt,
    )


def _argument(given: _Given) -> tuple[str | None, bytes | None]:
    """The arguments as a line of a file, and the message id in it; None where there are no arguments."""
    from rdknotify.envelope import new_notification

    if given.event_type is None:
        return None, None
    if given.raw:
        return None, given.event_type.encode()
    payload = {} if given.payload is None else _json("PAYLOAD", given.payload)
    new = new_notification(None, given.event_type, given.priority, payload)
    fields = {"event_type": new.event_type, "payload": payload, "message_id": new.message_id}
    return new.message_id, dumps(fields)


def _json(name: str, text: str) -> Any:
    try:
        return loads(text)
    except ValueError as error:
        raise click.UsageError(f"{name} is not JSON ({error}); quote it for the shell, as '{{\"id\": 7}}'") from None


def _tell(tally: Tally, given: _Given, seconds: float) -> None:
    """The closing lines: outcomes, and the first reasons."""
    from rdknotify.cli.failures import BAD

    for reason, number in tally.reasons.items():
        where = f"line {number:,}: " if given.event_type is None else ""
        output.tell(f"{where}{reason}", "red")
    failed = tally.outcomes.copy()
    bad = failed.pop(BAD, 0)
    text = (
        f"{tally.delivered:,} delivered, {failed.pop('not persisted', 0):,} certainly not, {failed.total():,} possibly"
    )
    text += f", {bad:,} bad line{'s' if bad != 1 else ''}" if bad else ""
    if tally.delivered > 1:
        text += f"; {seconds:.1f} s, {tally.delivered / max(seconds, 1e-9):,.0f}/s"
    output.tell(text)
    if not tally.outcomes or given.event_type is not None:
        return
    if given.failures is not None:
        output.tell(
            f"what was not delivered stands in {given.failures}: rdknotify send --resume {_quoted(given.failures)}"
        )
    else:
        ranges = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in tally.failed[:5])
        more = ", ..." if len(tally.failed) > 5 else ""
        output.tell(f"not delivered are the lines {ranges}{more}; --failures FILE keeps such lines")


def _tell_stop(tally: Tally, given: _Given) -> None:
    why = f": {tally.trouble}" if tally.trouble else ""
    if given.event_type is not None:
        if why:
            output.tell(f"not sent{why}")
        return
    next_line = max(tally.reached, given.from_line - 1) + 1
    output.tell(f"stopped after line {next_line - 1:,}{why}; go on with --from-line {next_line}")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
