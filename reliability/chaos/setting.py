"""Who takes part, and how much of everything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rdknotify.topics import notification_topic
from reliability.results import BUILD

FOLDER = BUILD / "chaos"
"""Histories and logs of the last run."""
HISTORY = FOLDER / "history"

NAME = "chaos"
TOPIC = notification_topic(NAME, "info")
PARTITIONS = 6
BATCH = 200
"""Notifications that an endpoint or a consumer is handed at a time."""
BULK = 170
"""Records that a producer sends at a time, ten times a second."""

TARGET_SECONDS, TARGET_FAULTS, TARGET_RECORDS = 1200, 500, 5_000_000
RECOVERY = 15.0
"""Seconds from the end of a fault to progress, for 99 of 100."""

SESSION = {"session.timeout.ms": "6000"}


@dataclass(frozen=True)
class Workload:
    """Members that do the same; those that read are a group of the same name."""

    name: str
    role: str
    members: int = 2
    options: dict[str, Any] = field(default_factory=dict)
    """Of all members, or where the key is a member's number of that one."""


WORKLOADS = (
    # The second and the third give up so soon that records end as NOT_PERSISTED and POSSIBLY_PERSISTED.
    Workload("producer", "produce", 3, {"2": {"delivery_timeout": 2.0}, "3": {"delivery_timeout": 5.0}}),
    Workload("before", "listen", 2, {"settle": "before", "config": SESSION}),
    Workload("after", "listen", 2, {"settle": "after", "config": SESSION}),
    Workload("consumer", "consume", 2, {"group_protocol": "consumer"}),
    Workload("sqlite", "persist", 2, {"config": SESSION}),
    Workload("postgres", "persist", 2, {"config": SESSION}),
)
SINKS = ("sqlite", "postgres")
GROUPS = tuple(workload.name for workload in WORKLOADS if workload.role != "produce")


def options_of(workload: Workload, number: int) -> dict[str, Any]:
    """Those of one member, which are counted from 1."""
    common = {key: value for key, value in workload.options.items() if not key.isdigit()}
    return {**common, **workload.options.get(str(number), {})}
