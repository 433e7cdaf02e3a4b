"""Topics: are they there, does each of their partitions work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rdknotify.cli.connection import Connection
from rdknotify.cli.doctor.finding import Finding, State
from rdknotify.topics import PRIORITIES, notification_topic

__all__ = ["look", "usual"]

_NO_LEADER = -1


def usual(connection: Connection) -> list[str]:
    """The topics that the service's notifications go to, of every priority."""
    vhost = connection.url.virtual_host
    return [notification_topic(topic, priority, vhost) for topic in connection.topics for priority in PRIORITIES]


def look(metadata: dict[str, Any], named: Sequence[str], expected: Sequence[str]) -> list[Finding]:
    """A finding for each that is named; else for each of the expected ones that is there."""
    there = metadata["topics"]
    if named:
        return [_one(name, there.get(name)) for name in named]
    found = [name for name in expected if there.get(name)]
    if found:
        return [_one(name, there[name]) for name in found]
    return [
        Finding(
            f"topic {expected[2].rpartition('.')[0]}.*" if len(expected) > 2 else "topics", "there", State.WARNING,
            "no topic of notifications is there, or this user may see none",
            "brokers make one when it is first sent to, if they may; else: rdknotify topics create " + expected[2],
        )
    ]  # fmt: skip


def _one(name: str, partitions: dict[int, int] | None) -> Finding:
    subject = f"topic {name}"
    if not partitions:
        return Finding(
            subject, "there", State.TROUBLE, "there is no such topic, or this user may not see it",
            f"check its spelling; make it: rdknotify topics create {name}; or have the user be given DESCRIBE on it",
        )  # fmt: skip
    lost = [number for number, leader in partitions.items() if leader == _NO_LEADER]
    facts = {"partitions": len(partitions), "without_leader": lost}
    if lost:
        return Finding(
            subject, "partitions", State.TROUBLE,
            f"of {len(partitions)} no broker leads {', '.join(map(str, lost))}: nothing can be sent there or read",
            "start the brokers that hold them; their logs say what keeps them from starting", facts,
        )  # fmt: skip
    return Finding(subject, "partitions", State.OK, f"{len(partitions)}, each has a leader", facts=facts)
