"""More of everything than is good: many senders with queues too small for them, a broker that stops again and again."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import click

from rdknotify.outcomes import Outcome
from rdknotify.testing import LocalKafka
from rdknotify.testing.checker import Result
from rdknotify.testing.faults import PauseNode
from reliability.crew import Crew
from reliability.results import Report
from reliability.stage import cluster, integrity, play

NAME = "stress"
SENDERS, CONSUMERS = 12, 4
BULKS = (1, 2000)
RATE = 800.0
"""Records a second that each sender wants to send."""
QUEUES = (500, 2000, 10_000)
"""Records that senders may have in flight; the smallest hold less than most bulks."""
IMPATIENT = {"delivery_timeout": 5.0, "queue_timeout": 2.0, "config": {"socket.timeout.ms": 4000}}
"""Of every other sender, which therefore gets failures to tell the truth about."""
PERIOD, STOPPED = 20.0, 8.0
"""Seconds from one stop of the broker to the next, and how long it lasts."""
GROUP = "stress"


@click.command(NAME)
@click.option("--seconds", default=180.0, show_default=True, help="How long; a stop of the broker every 20 s.")
def command(seconds: float) -> None:
    """Many senders of bulks of 1 to 2,000, small queues, the broker stopped and continued every 20 s."""
    what = (
        f"{SENDERS} sending processes, bulks of {BULKS[0]} to {BULKS[1]:,}, {CONSUMERS} consumers, "
        f"the broker stopped for {STOPPED:g} s every {PERIOD:g} s"
    )
    report = Report(NAME, what, f"make {NAME} SECONDS={seconds:g}")

    def run(report: Report) -> None:
        with cluster(NAME, nodes=1) as (kafka, folder):
            stress(report, kafka, folder, seconds)

    play(report, seconds, run)


def stress(report: Report, kafka: LocalKafka, folder: Path, seconds: float) -> None:
    """The experiment; its figures go into the report."""
    with Crew(kafka, NAME, folder / "crew") as crew:
        kafka.create_topic(crew.topic, 8)
        consumers = [crew.add("consume", GROUP, most=500) for _ in range(CONSUMERS)]
        job: dict[str, Any] = {"rate": RATE, "bulks": BULKS}
        senders = [crew.add("send", number=number, options=_options(number), **job) for number in range(SENDERS)]
        for client in [*consumers, *senders]:
            crew.begun(client)
        stops, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            with PauseNode(kafka, 1):
                time.sleep(STOPPED)
            stops += 1
            crew.check_running()
            time.sleep(PERIOD - STOPPED)
        crew.leave(senders)
        crew.wait_until_committed([GROUP])
        crew.leave(consumers)
        findings = crew.judge()
        report.figure("stops of the broker", stops)
        integrity(report, findings)
        outcomes: Counter[str] = Counter()
        for event in crew.events():
            if isinstance(event, Result):
                outcomes[Outcome(event.outcome).name] += sum(count for _, count in event.values)
        for outcome in Outcome:
            report.figure(f"records that were reported as {outcome.name}", outcomes[outcome.name])
        report.figure("records without an outcome", findings.sent - outcomes.total(), at_most=0)
        full = sum("QueueFull" in line for client in senders for line in client.errors)
        report.figure("calls that raised QueueFull", full)
        report.figure("handed out twice", findings.readings[GROUP].repeated)


def _options(number: int) -> dict[str, Any]:
    queue: dict[str, Any] = {"max_in_flight": QUEUES[number % len(QUEUES)]}
    return {**queue, **IMPATIENT} if number % 2 else queue
