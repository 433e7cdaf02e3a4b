"""``rdknotify bench``: a short one, on the user's own broker."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from rdknotify.cli import output
from rdknotify.cli.connection import Connection, connected
from rdknotify.cli.output import Exit
from rdknotify.client import TIMED_OUT
from rdknotify.errors import AuthorizationError, KafkaError, Timeout

if TYPE_CHECKING:
    from rdknotify.admin import Admin
    from rdknotify.producer import Producer

__all__ = ["command"]

REQUEST_TIMEOUT = 8.0
_STAMP_SIZE = 8
_MOCK_BYTES = 2 << 20
"""What is sent to a partition of the embedded broker: it keeps 5 MiB, and partitions fill unevenly."""
_OVERHEAD = 80
_LOOK = 0.2


@click.command("bench")
@connected
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=5.0, show_default=True, help="For each measure.")
@click.option(
    "--size", type=click.IntRange(_STAMP_SIZE, 900_000), default=200, show_default=True, help="Bytes of a record."
)
@click.option("--batch", type=click.IntRange(1, 50_000), default=1000, show_default=True, help="Records a call.")
@click.option(
    "--partitions", type=click.IntRange(1, 1000), default=4, show_default=True, help="Of the temporary topic."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def command(
    context: click.Context,
    connection: Connection,
    seconds: float,
    size: int,
    batch: int,
    partitions: int,
    as_json: bool,
) -> None:
    """Measure how fast this machine and its broker move records: sending, reading, and how long one takes.

    A topic of its own is made for it, and deleted at the end, also after Ctrl-C: that takes the rights to create and
    delete topics. Latency is that of single records, from the call that sends to the one that reads, at 200 a second.
    Whatever else the broker does meanwhile counts. benchmarks/ in the project's source has the full comparison.
    """
    from rdknotify.cli.bench import measures
    from rdknotify.tail import Tail

    if connection.cluster is not None:
        output.tell("this measures the embedded broker, which is in this very process: no figures of a Kafka", "yellow")
    most = partitions * _MOCK_BYTES // (size + _OVERHEAD) if connection.cluster else math.inf
    reading = connection.arguments("consumer", create_topics=False)
    reading["config"] = {"fetch.queue.backoff.ms": "10", **reading["config"]}
    with _topic(connection, partitions) as topic, _shown() as show, _producer(connection) as producer:
        for warming in [producer.send(topic, b"x" * size) for _ in range(partitions)]:
            warming.result(REQUEST_TIMEOUT).raise_for_failures()
        sent, undelivered = measures.produce(producer, topic, size, batch, seconds, most, show("sending"))
        with Tail(connection.url, [topic], start="earliest", **reading) as tail:
            read = measures.consume(tail, sent.records, size, batch, seconds, show("reading"))
        with Tail(connection.url, [topic], **reading) as tail:
            took = measures.latency(producer, tail, topic, size, seconds, show("one by one"))
    if undelivered:
        output.tell(f"{undelivered:,} records were not delivered in time; see `rdknotify doctor`", "yellow")
    figures = {"produce": sent.as_json(), "consume": read.as_json(), "latency_milliseconds": took.as_json()}
    if as_json:
        setting = {"size": size, "batch": batch, "partitions": partitions, "embedded": connection.cluster is not None}
        click.echo(json.dumps({**setting, "undelivered": undelivered, **figures}, indent=2))
    else:
        _print(figures)
    context.exit(Exit.PARTLY if undelivered else Exit.DONE)


@contextmanager
def _topic(connection: Connection, partitions: int) -> Iterator[str]:
    """A new topic that has leaders, deleted at the end."""
    from rdknotify.admin import Admin

    name = f"rdknotify-bench-{uuid.uuid4().hex[:8]}"
    if connection.cluster is not None:
        connection.cluster.create_topic(name, partitions)
        yield name
        return
    with Admin(connection.url, **connection.arguments("admin")) as admin:
        try:
            admin.create_topic(name, partitions, timeout=REQUEST_TIMEOUT)
        except AuthorizationError:
            output.tell("bench makes a topic of its own: that takes CREATE and DELETE on topics rdknotify-bench-*")
            raise
        try:
            _wait_for_leaders(admin, name)
            yield name
        finally:
            _delete(admin, name)


@contextmanager
def _producer(connection: Connection) -> Iterator[Producer]:
    """Ended before the topic is deleted: what it sent later would make brokers create the topic anew."""
    from rdknotify.producer import Producer

    with Producer(connection.url, **connection.arguments("producer")) as producer:
        try:
            yield producer
        finally:
            producer.purge()


def _wait_for_leaders(admin: Admin, name: str) -> None:
    deadline = time.monotonic() + REQUEST_TIMEOUT
    while not _is_led(admin, name):
        if time.monotonic() > deadline:
            raise Timeout(TIMED_OUT, "_TIMED_OUT", f"the new topic {name} has no leaders")
        time.sleep(0.05)


def _is_led(admin: Admin, name: str) -> bool:
    topic = admin.topics([name], REQUEST_TIMEOUT)[name]
    return not isinstance(topic, KafkaError) and all(each.leader is not None for each in topic.partitions)


def _delete(admin: Admin, name: str) -> None:
    try:
        refusal = admin.delete_topics([name], REQUEST_TIMEOUT)[name]
    except KafkaError as error:
        refusal = error
    except BaseException:
        output.tell(f"topic {name} is left behind: rdknotify topics delete {name}", "red")
        raise
    if refusal is not None:
        output.tell(f"topic {name} is left behind ({refusal}): rdknotify topics delete {name}", "red")


@contextmanager
def _shown() -> Iterator[Callable[[str], Callable[[], object]]]:
    """What is done now, on a terminal only; what it yields makes something to be called again and again."""
    with output.err.status("") as status:

        def show(text: str) -> Callable[[], object]:
            begun, due = time.monotonic(), 0.0

            def look() -> None:
                nonlocal due
                if time.monotonic() >= due:
                    due = time.monotonic() + _LOOK
                    status.update(f"{text} {time.monotonic() - begun:.0f} s")

            return look

        yield show


def _print(figures: dict[str, dict[str, Any]]) -> None:
    """Three rows."""
    from rich.table import Table

    rows = [("", "records", "a second", "MB/s", "CPU a record")]
    for title, name in (("sending", "produce"), ("reading", "consume")):
        one = figures[name]
        rows.append((
            title, f"{one['records']:,}", f"{one['records_per_second']:,.0f}", f"{one['megabytes_per_second']:,.1f}",
            f"{one['cpu_microseconds_per_record']:.2f} µs",
        ))  # fmt: skip
    took = figures["latency_milliseconds"]
    times = ", ".join(f"{name} {took[name]:.1f} ms" for name in ("p50", "p99", "longest"))
    last = f"latency: {times}, of {took['records']} records"
    if not output.out.is_terminal:
        for row in rows:
            click.echo("\t".join(row))
        click.echo(last)
        return
    table = Table(box=None, pad_edge=False)
    for number, title in enumerate(rows[0]):
        table.add_column(title, justify="right" if number else "left")
    for row in rows[1:]:
        table.add_row(*row)
    output.out.print(table)
    output.out.print(last, highlight=False)
