"""Hours at a fixed rate while members and brokers come and go: nothing grows, nothing is lost, no commit is missed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from rdknotify.errors import KafkaError
from rdknotify.testing import LocalKafka
from reliability.crew import Client, Crew
from reliability.results import Report
from reliability.samples import Samples
from reliability.stage import cluster, integrity, play

NAME = "endurance"
STORED_PART = 0.1
"""Of the rate, how much is stored in a database as well as sent."""
REBALANCE, RESTART, SAMPLE, LOOK = 30.0, 300.0, 5.0, 5.0
"""Seconds between two rebalances of each group, restarts of a broker, samples, looks at the lag."""
MOST = 500
"""Records that a member takes at a time."""
LONG = 20.0
"""Minutes from which on a trend is held against its target; before, what is warming up looks like one."""
WARM = 0.25
"""The part of the run that does not count for trends."""
GROWTH = {"MB of resident memory": 2.0, "file descriptors": 1.0, "threads": 0.5}
"""What a client may gain an hour, beyond twice the standard error of its trend."""


@dataclass
class Work:
    """Senders and groups of one topic."""

    crew: Crew
    sender: Client
    groups: dict[str, dict[str, Any]]
    """How to make a member of each."""
    lasting: list[Client] = field(default_factory=list)
    passing: list[Client] = field(default_factory=list)

    def join(self, count: int = 1) -> list[Client]:
        """New members of each group."""
        return [self.crew.add(group=group, **job) for group, job in self.groups.items() for _ in range(count)]

    def rebalance(self) -> None:
        """The members that came the last time leave; where there are none, some come."""
        if self.passing:
            self.crew.leave(self.passing)
            self.passing = []
        else:
            self.passing = self.join()


@click.command(NAME)
@click.option("--minutes", default=60.0, show_default=True, help="How long.")
@click.option("--rate", default=3000.0, show_default=True, help="Records a second.")
def command(minutes: float, rate: float) -> None:
    """A fixed rate, a rebalance of each group every 30 s, a broker restarted every 5 minutes, for any time."""
    what = f"{minutes:g} minutes of {rate:,.0f} records/s, a rebalance every 30 s, a broker restarted every 5 minutes"
    report = Report(NAME, what, f"make {NAME} MINUTES={minutes:g}")

    def run(report: Report) -> None:
        with cluster(NAME, nodes=3) as (kafka, folder), ExitStack() as stack:
            Run(report, kafka, folder, stack).endure(60 * minutes, rate)

    play(report, 60 * minutes, run)


class Run:
    """Two topics: one for consumers and listeners, one, with a part of the rate, for persisters."""

    def __init__(self, report: Report, kafka: LocalKafka, folder: Path, stack: ExitStack) -> None:
        self._report, self._kafka, self._folder, self._stack = report, kafka, folder, stack
        self._samples = Samples()
        self._database = folder / "stored.db"
        self._rebalances = self._restarts = self._longest_lag = 0

    def endure(self, seconds: float, rate: float) -> None:
        readers: dict[str, dict[str, Any]] = {
            "consumers": {"role": "consume", "most": MOST},
            "consumers-848": {"role": "consume", "most": MOST, "options": {"group_protocol": "consumer"}},
            "listeners": {"role": "listen", "most": MOST},
        }
        storers: dict[str, dict[str, Any]] = {"persisters": {"role": "persist", "database": str(self._database)}}
        works = [
            self._work("read", rate * (1 - STORED_PART), readers),
            self._work("stored", rate * STORED_PART, storers),
        ]
        begun = time.monotonic()
        self._keep_going(works, begun + seconds)
        for work in works:
            self._finish(work)
        self._trends(works, begun, begun + WARM * seconds, long=seconds >= 60 * LONG)
        self._database.unlink()

    def _work(self, name: str, rate: float, groups: dict[str, dict[str, Any]]) -> Work:
        crew = self._stack.enter_context(Crew(self._kafka, f"{NAME}-{name}", self._folder / name))
        self._kafka.create_topic(crew.topic, 6)
        size = max(1, round(rate / 20))
        work = Work(crew, crew.add("send", rate=rate, bulks=(size, size), options={"compression_codec": "lz4"}), groups)
        work.lasting = work.join(2)
        for client in [work.sender, *work.lasting]:
            if "persist" not in client.name:  # its history is its database
                crew.begun(client)
        return work

    def _keep_going(self, works: list[Work], end: float) -> None:
        tasks: list[Callable[[list[Work]], None]] = [self._sample, self._look, self._rebalance, self._restart]
        every = [SAMPLE, LOOK, REBALANCE, RESTART]
        due = [time.monotonic() + period for period in every]
        due[-1] -= REBALANCE / 2  # not always both at once
        while (now := time.monotonic()) < end:
            number = due.index(min(due))
            if due[number] > now:
                time.sleep(min(due[number], end) - now)
                continue
            tasks[number](works)
            due[number] = max(due[number] + every[number], now)

    def _sample(self, works: list[Work]) -> None:
        for work in works:
            self._samples.take(time.monotonic(), work.crew.topic, [work.sender, *work.lasting])
            work.crew.check_running()

    def _look(self, works: list[Work]) -> None:
        for work in works:
            for group in work.groups:
                try:
                    self._longest_lag = max(self._longest_lag, work.crew.lag(group))
                except KafkaError as error:  # its coordinator restarts
                    click.echo(f"lag of {group}: {error}", err=True)

    def _rebalance(self, works: list[Work]) -> None:
        for work in works:
            work.rebalance()
        self._rebalances += 1

    def _restart(self, works: list[Work]) -> None:
        self._kafka.restart(self._kafka.nodes[self._restarts % len(self._kafka.nodes)])
        self._restarts += 1

    def _finish(self, work: Work) -> None:
        work.sender.leave()
        begun = time.monotonic()
        work.crew.wait_until_committed(work.groups)
        self._report.figure(f"{work.crew.topic}: lag returned to 0 after", time.monotonic() - begun, "s", at_most=30)
        work.crew.leave([*work.lasting, *work.passing])
        groups = [group for group, job in work.groups.items() if job["role"] == "persist"]
        findings = work.crew.judge(databases=dict.fromkeys(groups, self._database))
        integrity(self._report, findings, f"{work.crew.topic}: ")
        missed = sum(work.crew.lag(group) for group in work.groups)
        self._report.figure(f"{work.crew.topic}: records not committed in the end", missed, at_most=0)
        faults = self._rebalances + self._restarts
        for group, reading in findings.readings.items():
            what = f"{group}: handed out twice, at most a batch for each rebalance and restart"
            self._report.figure(what, reading.repeated, at_most=faults * MOST)

    def _trends(self, works: list[Work], begun: float, warm: float, long: bool) -> None:
        self._report.figure("rebalances of each group", self._rebalances)
        self._report.figure("restarts of a broker", self._restarts)
        self._report.figure("longest lag of a group", self._longest_lag, "records")
        for name in self._samples.names:
            for column, growth in GROWTH.items():
                trend = self._samples.slope(name, column, warm)
                if trend is not None:
                    most = round(growth + 2 * trend.error, 2) if long else None
                    held = f"{self._samples.last(name, column):,.0f} {column}"
                    what = f"{name}, {held} in the end: gained an hour"
                    self._report.figure(what, trend.per_hour, column.partition(" ")[0], at_most=most, error=trend.error)
