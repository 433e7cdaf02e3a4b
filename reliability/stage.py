"""What the long runs have in common: a folder, a cluster, an end in bounded time, a report."""

from __future__ import annotations

import faulthandler
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from rdknotify.errors import RdNotifyError
from rdknotify.testing import LocalKafka
from rdknotify.testing.checker import Kind
from rdknotify.testing.checker import Report as Findings
from reliability.results import BUILD, Report

OVERTIME = 900.0
"""Seconds after which a run that has not ended is ended, with a traceback of every thread."""


def play(report: Report, seconds: float, run: Callable[[Report], None]) -> None:
    """Run it and publish its report; ends the process with status 0 where every target was met, else with 1."""
    faulthandler.dump_traceback_later(seconds + OVERTIME, exit=True)
    # A shell lets its background jobs ignore it, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run(report)
    except RdNotifyError as error:
        sys.exit(f"{report.name}: {error}")
    finally:
        faulthandler.cancel_dump_traceback_later()
    sys.exit(report.publish())


@contextmanager
def cluster(name: str, nodes: int) -> Iterator[tuple[LocalKafka, Path]]:
    """Real Kafka, and an empty folder in which the histories of the last run remain."""
    folder = BUILD / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with LocalKafka(nodes=nodes) as kafka:
        yield kafka, folder


def integrity(report: Report, findings: Findings, what: str = "") -> None:
    """Every kind of anomaly that the checker knows, none of which may be."""
    report.figure(f"{what}records sent", findings.sent)
    for kind in Kind:
        count = findings.count(kind)
        if count or kind in (Kind.LOST, Kind.UNSEEN, Kind.DUPLICATE, Kind.FAILED_EXISTS, Kind.AHEAD):
            report.figure(f"{what}{kind.value}", count, at_most=0)
    for anomaly in findings.anomalies:
        click.echo(str(anomaly), err=True)
