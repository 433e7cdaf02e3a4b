"""Eight threads that share a producer and a consumer on real Kafka; with the GIL, and in a free-threaded Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click

from rdknotify.errors import RdNotifyError
from rdknotify.testing import LocalKafka
from reliability.results import Report
from reliability.sharing import PATIENCE, THREADS
from reliability.stage import cluster, play

NAME = "threads"
PROGRAM = Path(__file__).with_name("sharing.py")


@click.command(NAME)
@click.option("--seconds", default=600.0, show_default=True, help="How long.")
@click.option("--python", default=sys.executable, help="An interpreter that has rdknotify; otherwise this one.")
def command(seconds: float, python: str) -> None:
    """Eight threads that share a producer and a consumer."""
    report = Report(
        NAME,
        f"{THREADS} threads share a producer and a consumer, all they may call",
        f"make {NAME} SECONDS={seconds:g}",
    )

    def run(report: Report) -> None:
        with cluster(NAME, nodes=1) as (kafka, _):
            share(report, kafka, seconds, python)

    play(report, seconds, run)


def share(report: Report, kafka: LocalKafka, seconds: float, python: str) -> None:
    """The experiment; its figures go into the report. Raises RdNotifyError where the process did not end well."""
    kafka.create_topic(NAME, 4)
    command = [python, "-X", "faulthandler", str(PROGRAM), kafka.url, NAME, str(seconds)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 5 * PATIENCE, check=False)
    if ended.returncode:
        raise RdNotifyError(f"status {ended.returncode}:\n{ended.stderr[-10_000:]}")
    told = json.loads(ended.stdout)
    failures = told.pop("failures")
    click.echo(
        "\n".join([f"CPython {told.pop('python')}, GIL {'on' if told.pop('gil') else 'off'}", *failures]), err=True
    )
    report.figure("records sent", told.pop("sent"), at_least=1)
    for what, count in told.items():
        report.figure(what, count, at_most=0)
    report.figure("calls that raised", len(failures), at_most=0)
