"""A bulk and what became of it: its report held against what an independent reader finds on the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from rdknotify import BatchReport, Outcome, Producer
from rdknotify.testing import LocalKafka, RunningKafka
from support.figures import Figures
from support.reader import read_all

Stored = Counter["bytes | None"]


def stored_values(bootstrap: str, topic: str) -> Stored:
    """How often each value is on the log."""
    return Counter(value for _partition, _offset, _key, value, _headers in read_all(bootstrap, topic))


def outcomes(report: BatchReport) -> list[Outcome]:
    """One for each record."""
    known = dict.fromkeys(range(report.total), Outcome.DELIVERED)
    known.update({failure.index: failure.outcome for failure in report.failures})
    return list(known.values())


def disagreements(report: BatchReport, sent: Sequence[bytes], stored: Stored) -> list[str]:
    """Where the log says something else than the report, record by record."""
    assert report.total == len(sent) == report.delivered + len(report.failures)
    possible = {Outcome.DELIVERED: (1,), Outcome.NOT_PERSISTED: (0,), Outcome.POSSIBLY_PERSISTED: (0, 1)}
    return [
        f"record {index} was reported {outcome.name} and is {stored[value]} times on the log"
        for index, (value, outcome) in enumerate(zip(sent, outcomes(report), strict=True))
        if stored[value] not in possible[outcome]
    ]


def joined(reports: Sequence[BatchReport]) -> BatchReport:
    """Reports of bulks that were sent one after the other, as of one."""
    failures, total = [], 0
    for report in reports:
        failures += [replace(failure, index=total + failure.index) for failure in report.failures]
        total += report.total
    return BatchReport(total, total - len(failures), failures)


def settle(
    figure: Figures,
    row: str,
    case: str,
    producer: Producer,
    kafka: LocalKafka | RunningKafka,
    topic: str,
    sent: Sequence[bytes],
    report: BatchReport,
) -> None:
    """Hold the report against the log, send again exactly what it calls safe, hold the sum against the log."""
    kafka.heal()  # a leader that was stopped may tell an old end until it learns of its successor
    stored = stored_values(kafka.bootstrap_servers, topic)
    wrong = disagreements(report, sent, stored)
    print(case, Counter((failure.error.name, failure.outcome.name) for failure in report.failures), *wrong[:5])
    figure(row, f"{case}: records of the bulk", report.total)
    figure(row, f"{case}: outcomes that the log belies", len(wrong), at_most=0)
    unsure = [
        value for value, outcome in zip(sent, outcomes(report), strict=True) if outcome is Outcome.POSSIBLY_PERSISTED
    ]
    if report.failures:
        figure(row, f"{case}: safe to send again", len(report.safe_to_resend))
    if unsure:
        figure(row, f"{case}: possibly persisted", len(unsure))
        figure(row, f"{case}: of these on the log", sum(stored[value] for value in unsure))
    if report.safe_to_resend:
        again = producer.deliver(topic, [sent[index] for index in report.safe_to_resend], timeout=60)
        again.raise_for_failures()
        stored = stored_values(kafka.bootstrap_servers, topic)
    lost = set(sent) - set(stored) - set(unsure)
    figure(row, f"{case}: lost, what is safe sent again", len(lost), at_most=0)
    figure(row, f"{case}: there twice", sum(stored.values()) - len(stored), at_most=0)
    assert set(stored) <= set(sent), "something is there that nobody sent"
