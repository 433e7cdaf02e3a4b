"""``rdknotify doctor``: what is wrong between here and the cluster, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from rdknotify.cli import output
from rdknotify.cli.connection import Connection, connected
from rdknotify.cli.doctor import cluster, encryption, report, topics
from rdknotify.cli.doctor.broker import Broker, Way, probe
from rdknotify.cli.doctor.finding import Deadline, Finding, State, side_by_side
from rdknotify.cli.output import Exit
from rdknotify.errors import ConfigError, KafkaError
from rdknotify.options import resolve
from rdknotify.producer import Producer

__all__ = ["command", "examine"]

PROBE_TIME, LOGIN_TIME, LOOK_TIME, WRITE_TIME = 2.5, 2.5, 2.0, 2.0
"""Seconds for the brokers of the URL; for the login; for the cluster's other brokers, topics and group; for a record.

Together less than 10, also when nobody answers anything.
"""


@click.command("doctor")
@connected
@click.option("--topic", "names", multiple=True, metavar="NAME", help="A topic to look at, by its full name.")
@click.option("--group", metavar="NAME", help="A consumer group to look at.")
@click.option("--write", metavar="TOPIC", help="Write a record to this topic, read it back, compare clocks.")
@click.option("--json", "as_json", is_flag=True, help="All findings, for a program.")
@click.pass_context
def command(
    context: click.Context,
    connection: Connection,
    names: tuple[str, ...],
    group: str | None,
    write: str | None,
    as_json: bool,
) -> None:
    """Check everything between here and the cluster; for each failure say the cause and the next step.

    Names, connections, TLS, logins and versions of each broker of the URL, and of the further ones that the cluster
    sends its clients to; topics (without --topic: those of the notifications), and the group. Nothing is written,
    unless by --write: whoever reads that topic gets the record, too; choose one that nobody works on.

    The exit status is 0 if all is well, 3 if trouble was found. It takes less than 10 seconds, also when nobody
    answers.
    """
    findings = examine(connection, names, group, write)
    if as_json:
        report.as_json(findings)
    elif output.out.is_terminal:
        report.as_table(findings, output.out)
    else:
        report.as_lines(findings)
    trouble = any(finding.state is State.TROUBLE for finding in findings)
    output.tell(report.verdict(findings), "red" if trouble else "green")
    context.exit(Exit.PARTLY if trouble else Exit.DONE)


def examine(
    connection: Connection, names: Sequence[str] = (), group: str | None = None, write: str | None = None
) -> list[Finding]:
    """All findings, in the order in which one looks at them. Raises nothing but what Ctrl-C does."""
    try:
        arguments = connection.arguments("producer")
        config = arguments.pop("config")
        settings = resolve(connection.url, "producer", arguments, config)
        way = Way.of(settings)
        client = cluster.lazy(settings)
    except (ConfigError, OSError) as error:
        advice = "correct it; docs/options.md lists what there is" if isinstance(error, ConfigError) else ""
        return [Finding(f"settings from {connection.source}", "options", State.TROUBLE, str(error), advice)]
    try:
        findings = [
            Finding("settings", "options", State.OK, f"{settings.url} by {way.protocol}, from {connection.source}")
        ]
        if way.tls and way.encryption.own is not None:
            findings.append(encryption.own("settings", way.encryption.own))
        brokers = [Broker(host, port) for host, port in settings.url.hosts]
        _probe(brokers, way, PROBE_TIME)
        findings += [finding for each in brokers for finding in each.findings]
        findings.append(login := cluster.log_in(client, settings, brokers, LOGIN_TIME))
        if login.state is State.OK:
            findings += _inside(client, connection, way, brokers, names, group)
        return findings
    finally:
        client.shut()


def _probe(brokers: Sequence[Broker], way: Way, seconds: float) -> None:
    deadline = Deadline(seconds)
    side_by_side([partial(probe, broker, way, deadline) for broker in brokers], deadline)


def _inside(
    client: Producer,
    connection: Connection,
    way: Way,
    known: Sequence[Broker],
    names: Sequence[str],
    group: str | None,
) -> list[Finding]:
    """What only who is let in can see."""
    try:
        metadata = client.metadata(timeout=LOOK_TIME)
    except KafkaError as error:
        return [Finding("cluster", "metadata", State.TROUBLE, f"it does not tell of itself: {error}", "try again")]
    further = cluster.advertised(metadata, known)
    count = len(metadata["brokers"])
    findings = [Finding("cluster", "brokers", State.OK, f"{count} broker{'s' * (count > 1)}", facts=_ids(metadata))]
    _probe(further, way, LOOK_TIME)
    findings += [finding for each in further for finding in each.findings]
    findings += topics.look(metadata, names, topics.usual(connection))
    return findings


def _ids(metadata: dict[str, Any]) -> dict[str, Any]:
    return {"brokers": [{"id": number, "host": host, "port": port} for number, host, port in metadata["brokers"]]}
