"""The rolling restart of a cluster under load: no error reaches the application."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rdknotify.outcomes import Outcome
from rdknotify.testing import LocalKafka
from rdknotify.testing.checker import Result
from rdknotify.testing.faults import RollingRestart
from reliability.crew import Crew, longest_wait
from reliability.results import Report
from reliability.stage import cluster, integrity, play

NAME = "rolling"
RATE = 2000.0
MEMBERS: dict[str, tuple[str, dict[str, Any]]] = {
    "consumers": ("consume", {"group_protocol": "classic"}),
    "consumers of the newer protocol": ("consume", {"group_protocol": "consumer"}),
    "listeners": ("listen", {"settle": "after"}),
}


@click.command(NAME)
@click.option("--rounds", default=3, show_default=True, help="How often every node is restarted.")
def command(rounds: int) -> None:
    """Clean restarts of three nodes, one after the other, under load."""
    report = Report(
        NAME, f"every node restarted in its turn, {rounds} times, under load", f"make {NAME} ROUNDS={rounds}"
    )

    def run(report: Report) -> None:
        with cluster(NAME, nodes=3) as (kafka, folder):
            restart(report, kafka, folder, NAME, rounds)

    play(report, 120.0 * rounds, run)


def restart(report: Report, kafka: LocalKafka, folder: Path, topic: str, rounds: int) -> None:
    """The experiment; its figures go into the report."""
    with Crew(kafka, topic, folder / "crew") as crew:
        kafka.create_topic(crew.topic, 6)
        groups = {name: f"{topic}-{number}" for number, name in enumerate(MEMBERS)}
        members = [
            crew.add(role, groups[name], options=options) for name, (role, options) in MEMBERS.items() for _ in range(2)
        ]
        sender = crew.add("send", rate=RATE, bulks=(50, 50))
        for client in [*members, sender]:
            crew.begun(client)
        joining = {client.name: len(client.errors) for client in crew.clients}  # a commit may fail in a rebalance
        for _ in range(rounds):
            RollingRestart(kafka).begin()
            crew.check_running()
        sender.leave()
        crew.wait_until_committed(groups.values())
        crew.leave(members)
        findings = crew.judge()
        integrity(report, findings)
        report.figure("nodes restarted", rounds * len(kafka.nodes))
        errors = [f"{each.name}: {line}" for each in crew.clients for line in each.errors[joining[each.name] :]]
        report.figure("errors that reached an application", len(errors), at_most=0)
        failed = [
            event for event in crew.events() if isinstance(event, Result) and Outcome(event.outcome) < Outcome.DELIVERED
        ]
        report.figure("bulks with a record that was not delivered", len(failed), at_most=0)
        for name, group in groups.items():
            report.figure(f"{name}: handed out twice", findings.readings[group].repeated, at_most=0)
            report.figure(f"{name}: longest wait of a record", longest_wait(crew.events(), group), "s")
        click.echo("\n".join(errors), err=True, nl=bool(errors))
