"""``rdknotify doctor``: what is wrong between here and the cluster, and what to do about it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

import click

from rdknotify.admin import Admin
from rdknotify.cli import output
from rdknotify.cli.connection import Connection, connected
from rdknotify.cli.doctor import cluster, encryption, report, topics, writing
from rdknotify.cli.doctor import group as group_look
from rdknotify.cli.doctor.broker import Broker, Way, probe
from rdknotify.cli.doctor.finding import Deadline, Finding, State, side_by_side
from rdknotify.cli.output import Exit
from rdknotify.errors import ConfigError
from rdknotify.options import resolve

__all__ = ["command", "examine"]

PROBE_TIME, LOGIN_TIME, CLUSTER_TIME, LOOK_TIME, WRITE_TIME = 2.0, 2.5, 1.0, 2.0, 1.5
"""Seconds for the brokers of the URL, the login, the list of brokers, the topics and the group, a record.

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

    \b
    rdknotify doctor --url kafka://broker1:9092,broker2:9092
    rdknotify doctor --config-file /etc/nova/nova.conf --group billing
    rdknotify doctor --topic orders.info --json | jq '.findings[] | select(.state == "trouble")'
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
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            arguments = connection.arguments("admin")
            settings = resolve(connection.url, "admin", arguments, arguments.pop("config"))
        way = Way.of(settings)
        findings = [_settings(connection, way), *(_warning(each) for each in said)]
        if way.tls and way.encryption.own is not None:
            findings.append(encryption.own("settings", way.encryption.own))
        brokers = [Broker(host, port) for host, port in settings.url.hosts]
        _probe(brokers, way, PROBE_TIME)
        findings += [finding for each in brokers for finding in each.findings]
        login, client = cluster.log_in(connection, settings, brokers, LOGIN_TIME)
    except ConfigError as error:
        text = f"from {connection.source}: {error}"
        return [Finding("settings", "options", State.TROUBLE, text, "correct it; docs/options.md has all options")]
    findings.append(login)
    if client is not None:
        with client:
            findings += _inside(client, connection, way, brokers, names, group)
            if write is None:
                findings.append(writing.not_measured())
            else:
                findings += writing.write(client, connection, write, Deadline(WRITE_TIME))
    return findings


def _settings(connection: Connection, way: Way) -> Finding:
    return Finding("settings", "options", State.OK, f"{connection.url} by {way.protocol}, from {connection.source}")


def _warning(said: warnings.WarningMessage) -> Finding:
    return Finding("settings", "options", State.WARNING, str(said.message))


def _probe(brokers: Sequence[Broker], way: Way, seconds: float) -> None:
    deadline = Deadline(seconds)
    side_by_side([partial(probe, broker, way, deadline) for broker in brokers], deadline)
    for broker in brokers:
        broker.conclude(seconds)


def _inside(
    client: Admin, connection: Connection, way: Way, known: Sequence[Broker], names: Sequence[str], group: str | None
) -> list[Finding]:
    """What only who is let in can see."""
    if connection.cluster is not None:
        text = "the embedded broker answers no questions about the cluster, topics and groups"
        return [Finding(cluster.SUBJECT, "brokers", State.SKIPPED, text)]
    brokers, nodes = cluster.describe(client, CLUSTER_TIME)
    further = cluster.further(nodes, known)
    deadline = Deadline(LOOK_TIME)
    largest = connection.config.get("message.max.bytes")

    def look_at_topics() -> list[Finding]:
        usual = topics.usual(connection)
        return topics.look(client, names, usual, int(largest) if largest else None, deadline)

    def look_at_group() -> list[Finding]:
        return group_look.look(client, group, deadline) if group else []

    def look_at_brokers() -> list[Finding]:
        _probe(further, way, LOOK_TIME)
        return [finding for each in further for finding in each.findings]

    found = side_by_side([look_at_brokers, look_at_topics, look_at_group], deadline, grace=0.5)
    late = [Finding(cluster.SUBJECT, "answers", State.WARNING, f"not all came within {LOOK_TIME:g} s", "try again")]
    return [brokers, *(finding for findings in found for finding in (late if findings is None else findings))]
