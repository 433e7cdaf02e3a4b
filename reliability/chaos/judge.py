"""Figures out of the histories: the checker's anomalies, repeats, and how soon everything went on after each fault."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rdknotify.outcomes import Outcome
from rdknotify.testing import checker
from rdknotify.testing.checker import Event, Fault, Held, Kind, Poll, Result
from reliability.chaos.setting import (
    BATCH,
    GROUPS,
    RECOVERY,
    SINKS,
    TARGET_FAULTS,
    TARGET_RECORDS,
    TARGET_SECONDS,
    WORKLOADS,
)
from reliability.results import Report

PRODUCER, BEFORE, AFTER, CONSUMER = "producer", "before", "after", "consumer"


@dataclass
class Course:
    """When each workload went on, and what there was of each; gathered in one pass over the histories."""

    progress: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    outcomes: Counter[int] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)

    def follow(self, events: Iterable[Event]) -> Course:
        reached: dict[tuple[str, int], int] = {}
        for event in events:
            if isinstance(event, Poll):
                self.progress[event.group].append(event.at)
            elif isinstance(event, Result):
                self.outcomes[event.outcome] += sum(count for _, count in event.values)
                if event.outcome == Outcome.DELIVERED.value:
                    self.progress[PRODUCER].append(event.at)
            elif isinstance(event, Held):
                if event.next > reached.get((event.group, event.partition), 0):
                    reached[event.group, event.partition] = event.next
                    self.progress[event.group].append(event.at)
            elif isinstance(event, Fault):
                self.faults.append(event)
        for times in self.progress.values():
            times.sort()
        return self

    def recoveries(self) -> list[tuple[float, str, Fault]]:
        """Seconds from the end of each fault to the next progress of each workload, which is named; sorted.

        After the last progress of a workload there is nothing to wait for; a standstill until then shows as lag.
        """
        found = []
        for fault in self.faults:
            for workload in (each.name for each in WORKLOADS):
                times = self.progress[workload]
                place = bisect_left(times, fault.end)
                if place < len(times):
                    found.append((times[place] - fault.end, workload, fault))
        return sorted(found, key=lambda each: each[0])


def judge(report: Report, history: Path, seconds: float, problems: list[str]) -> list[str]:
    """Add all figures to the report; returns what happened and what went wrong, in words."""
    course = Course().follow(checker.load(history))
    found = checker.check(checker.load(history), before=[BEFORE])
    share = seconds / TARGET_SECONDS
    report.figure("faults", len(course.faults), at_least=int(TARGET_FAULTS * share))
    report.figure("records sent", found.sent, at_least=int(TARGET_RECORDS * share))
    _integrity(report, found, course)
    _repeats(report, found)
    _recovery(report, course)
    report.figure("clients that ended or hung by themselves, faults that could not be done", len(problems), at_most=0)
    for outcome in Outcome:
        report.figure(f"records whose outcome was {outcome.name}", course.outcomes[outcome.value])
    return [_kinds(course.faults), *problems, *map(str, found.anomalies), *_repeats_told(found)]


def _integrity(report: Report, found: checker.Report, course: Course) -> None:
    lost = found.count(Kind.LOST) - found.count(Kind.LOST, BEFORE)
    report.figure("records lost", lost, at_most=0)
    twice = found.count(Kind.DUPLICATE)  # neither the log nor a sink may have a value twice
    report.figure("records duplicated: on the log, in SQLite, in PostgreSQL", twice, at_most=0)
    for kind in Kind:
        if kind not in (Kind.LOST, Kind.DUPLICATE):
            report.figure(f"anomalies: {kind.value}", found.count(kind), at_most=0)
    kills = sum(fault.kind == "kill" and fault.target.startswith(f"{BEFORE}-") for fault in course.faults)
    report.figure(
        f'settle="before": records that {kills} kills of its members took, {BATCH} each at most',
        found.count(Kind.LOST, BEFORE),
        at_most=BATCH * kills,
    )


def _repeats(report: Report, found: checker.Report) -> None:
    for group in GROUPS:
        if group in SINKS or group not in found.readings:
            continue
        reading = found.readings[group]
        name = {BEFORE: 'settle="before"', AFTER: 'settle="after"', CONSUMER: 'commit="after"'}[group]
        # A consumer's loop is the application's: it polls on after a commit that failed, and so has more in hand.
        most = {BEFORE: 0, AFTER: BATCH, CONSUMER: None}[group]
        report.figure(f"{name}: records handed out", reading.handed)
        report.figure(f"{name}: of these, again", reading.repeated, at_most=0 if group == BEFORE else None)
        report.figure(f"{name}: most repeated of one member after one fault", reading.largest_repeat, at_most=most)


def _recovery(report: Report, course: Course) -> None:
    recoveries = course.recoveries()
    if not recoveries:
        report.figure("recoveries seen", 0, at_least=1)
        return
    for name, quantile, most in (("p50", 0.5, None), ("p99", 0.99, RECOVERY), ("longest", 1.0, None)):
        waited = recoveries[min(len(recoveries) - 1, int(quantile * len(recoveries)))][0]
        report.figure(f"from a fault's end to progress, {name}", round(waited, 3), "s", at_most=most)


def _kinds(faults: Iterable[Fault]) -> str:
    """How many faults there were of each kind."""
    counts = Counter(f"{fault.kind} {fault.target.rstrip('-0123456789 ')}" for fault in faults)
    return "faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))


def _repeats_told(found: checker.Report) -> list[str]:
    return [
        f"{group}: {reading.repeated} again, {reading.largest_repeat} at once after {reading.largest_at}"
        for group, reading in found.readings.items()
        if reading.repeated
    ]
