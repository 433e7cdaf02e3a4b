"""What happened to every record, judged from histories, in the manner of Jepsen's workload for Kafka.

Processes write what they do as JSON lines, each a file of its own: sends and their outcomes, polls, commits, what a
sink holds. Afterwards somebody independent reads the whole log. :func:`check` compares all of it and reports each
anomaly with evidence::

    from rdknotify.testing.checker import Poll, Writer, check, load, runs

    with Writer(folder / "member-1.jsonl") as history:
        history.write(Poll(time.monotonic(), "member-1", "billing", runs(offsets, values), "events", 0, epoch=1))
    ...
    report = check(load(folder))
    assert not report.anomalies, report

A value is a 64-bit number that nobody else ever sends: :func:`value` makes one of a producer and a sequence number.
Needs numpy (``pip install 'rdknotify[testing]'``), but neither the extension nor Kafka. Five million records with five
readers take 10 to 30 seconds on one core, and 1 GB.
"""

from rdknotify.testing.checker.checks import check
from rdknotify.testing.checker.findings import Anomaly, Kind, Reading, Report
from rdknotify.testing.checker.history import (
    Commit,
    Event,
    Fault,
    Held,
    Logged,
    Poll,
    Result,
    Run,
    Send,
    Stored,
    Writer,
    load,
    partition_runs,
    runs,
    spans,
    value,
)

__all__ = [
    "Anomaly",
    "Commit",
    "Event",
    "Fault",
    "Held",
    "Kind",
    "Logged",
    "Poll",
    "Reading",
    "Report",
    "Result",
    "Run",
    "Send",
    "Stored",
    "Writer",
    "check",
    "load",
    "partition_runs",
    "runs",
    "spans",
    "value",
]
