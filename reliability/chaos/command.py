"""The whole run: start, let faults happen, calm down, read everything, judge."""

from __future__ import annotations

import faulthandler
import json
import os
import re
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click

from benchmarks.setting import ROOT
from rdknotify.errors import RdNotifyError
from rdknotify.testing import LocalKafka, LocalPostgres
from rdknotify.testing.checker import Writer
from rdknotify.testing.cluster import until
from rdknotify.testing.faults import Fault, Member, every_fault
from reliability.chaos.judge import judge
from reliability.chaos.schedule import Chaos, CrashPostgres, Planned, StopPostgres, plan
from reliability.chaos.setting import FOLDER, HISTORY, PARTITIONS, TOPIC, WORKLOADS, Workload, options_of
from reliability.chaos.watch import Query, Watch, postgres_query, sqlite_query, stored
from reliability.crew import read_log
from reliability.results import BUILD, Report

OVERTIME = 600.0
"""Seconds after which a run that has not ended is ended, with a traceback of every thread."""
CALM_TIMEOUT = 120.0
"""Seconds for the faults to end, for the nodes to be in sync, for everybody to catch up."""
COMPLAINT = re.compile(r"Traceback|Fatal Python error|assert:")


@dataclass
class ChaosReport(Report):
    """What the run was, for the replay, and what it found, in words."""

    seed: int = 0
    length: float = 0
    plan: list[Planned] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


@click.command("chaos")
@click.option("--seconds", default=1200.0, show_default=True, help="How long faults happen.")
@click.option("--seed", default=1, show_default=True, help="Of the faults, their order and their times.")
@click.option("--replay", type=click.Path(path_type=Path, exists=True), help="Faults of a former run: its chaos.json.")
@click.option("--recheck", is_flag=True, help="Judge the histories of the last run again.")
def command(seconds: float, seed: int, replay: Path | None, recheck: bool) -> None:
    """Random faults against producers, listeners in both settle modes, consumers, persisters with both sinks."""
    report = ChaosReport("chaos", "", "")
    if recheck:
        replay = BUILD / "chaos.json"
    if replay:
        former = json.loads(replay.read_text())
        seconds, seed, report.plan = former["length"], former["seed"], [Planned(**each) for each in former["plan"]]
    else:
        report.plan = plan(seed, seconds)
    report.seed, report.length = seed, seconds
    report.command = f"make chaos SECONDS={seconds:g} SEED={seed}"
    report.what = f"{len(report.plan)} random faults against every client, seed {seed}, histories judged by the checker"
    try:
        report.problems = former["problems"] if recheck else run(report.plan, seconds)
    except RdNotifyError as error:
        sys.exit(f"chaos: {error}")
    report.findings = judge(report, HISTORY, seconds, report.problems)
    sys.exit(publish(report))


def publish(report: ChaosReport) -> int:
    """Say what was found; the exit status."""
    for each in report.findings:
        click.echo(each)
    return report.publish()


def run(planned: list[Planned], seconds: float) -> list[str]:
    """One run, whose histories are in the folder afterwards; returns what went wrong beside them."""
    faulthandler.dump_traceback_later(seconds + OVERTIME, exit=True)
    # A shell lets its background jobs ignore it, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    shutil.rmtree(FOLDER, ignore_errors=True)
    HISTORY.mkdir(parents=True)
    try:
        with ExitStack() as stack:
            return Stage(stack).play(planned, seconds)
    finally:
        faulthandler.cancel_dump_traceback_later()


class Stage:
    """Kafka, PostgreSQL, members and who watches them; ``stack`` ends them all."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.kafka = stack.enter_context(LocalKafka(nodes=3, proxied=True))
        self.kafka.create_topic(TOPIC, PARTITIONS)
        self.postgres = stack.enter_context(LocalPostgres())
        self.databases = {"sqlite": str(FOLDER / "chaos.db"), "postgres": self.postgres.create_database()}
        stack.callback(self._remove_database)
        self.queries: dict[str, Query] = {
            "sqlite": sqlite_query(self.databases["sqlite"]),
            "postgres": postgres_query(self.databases["postgres"]),
        }
        self.history = stack.enter_context(Writer(HISTORY / "watch.jsonl"))
        self.members = [self._member(each, number + 1) for each in WORKLOADS for number in range(each.members)]
        bootstrap = self.kafka.bootstrap_servers
        self.watch = stack.enter_context(Watch(bootstrap, self.queries, self.history))
        faults: list[Fault] = [*every_fault(self.kafka, self.members)]
        faults += [CrashPostgres(self.postgres), StopPostgres(self.postgres)]
        self.faults = {str(fault): fault for fault in faults}

    def _member(self, workload: Workload, number: int) -> Member:
        name = f"{workload.name}-{number}"
        job = {
            "name": name,
            "workload": workload.name,
            "role": workload.role,
            "number": number,
            "url": self.kafka.proxied_url,
            "database": self.databases.get(workload.name, ""),
            "options": options_of(workload, number),
            "history": str(HISTORY),
        }
        # The mark by which a leftover is found; the program does not read it.
        mark = f"--rdknotify.owner={os.getpid()}"
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        command = ["env", f"PYTHONPATH={path}", sys.executable, "-m", "reliability.chaos.member", json.dumps(job), mark]
        member = Member(name, FOLDER / name, command)
        self._stack.callback(member.kill)
        return member

    def _remove_database(self) -> None:
        for path in FOLDER.glob("chaos.db*"):
            path.unlink()

    def play(self, planned: list[Planned], seconds: float) -> list[str]:
        """Faults for so many seconds, then peace until everybody has caught up; returns what went wrong."""
        chaos = Chaos(planned, self.faults, self.members, lambda: self.kafka.wait_in_sync(CALM_TIMEOUT))
        chaos.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(1.0, max(0.0, end - time.monotonic())))
            chaos.look_after_members()
        chaos.stop(CALM_TIMEOUT)
        problems = chaos.problems
        self.kafka.heal(CALM_TIMEOUT)
        self.postgres.start()
        for fault in chaos.past:
            self.history.write(fault)
        chaos.look_after_members()
        problems += self._leave("producer")
        try:
            until(lambda: self.watch.caught_up() or None, CALM_TIMEOUT, "not everybody caught up")
        except RdNotifyError as error:
            problems.append(str(error))
        problems += self._leave("")
        self.watch.close()
        self._read_everything()
        return problems + [
            f"{each.name} complained: {lines}" for each in self.members if (lines := _complaints(each.log))
        ]

    def _leave(self, workload: str) -> list[str]:
        problems = []
        for member in self.members:
            if member.name.startswith(workload):
                try:
                    member.leave()
                except RdNotifyError as error:
                    problems.append(str(error))
        return problems

    def _read_everything(self) -> None:
        with Writer(HISTORY / "log.jsonl") as history:
            for logged in read_log(self.kafka.bootstrap_servers, TOPIC):
                history.write(logged)
        for group, query in self.queries.items():
            with Writer(HISTORY / f"stored-{group}.jsonl") as history:
                for part in stored(group, query):
                    history.write(part)


def _complaints(log: Path) -> str:
    """The first one, with what comes after it."""
    lines = log.read_text(errors="replace").splitlines()
    begin = next((number for number, line in enumerate(lines) if COMPLAINT.search(line)), len(lines))
    return " | ".join(lines[begin : begin + 30])[-1500:]
