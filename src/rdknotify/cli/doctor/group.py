"""A consumer group: is it there, does somebody work, does it get on."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rdknotify.admin import Admin, Group, PartitionLag
from rdknotify.cli.doctor.finding import Deadline, Finding, State
from rdknotify.errors import AuthorizationError, KafkaError

__all__ = ["look"]

_BETWEEN = 1.0
"""Seconds between two looks at the offsets."""
_PAUSE = 0.5
"""Seconds between two questions to a coordinator that is not ready."""


def look(client: Admin, name: str, deadline: Deadline) -> list[Finding]:
    """State, members and lag, looked at twice to see whether it moves."""
    subject = f"group {name}"
    try:
        group = _described(client, name, deadline)
        before = client.lag(name, timeout=deadline.left, described=group)
        after = before
        if any(each.lag for each in before) and deadline.left > 2 * _BETWEEN / 3:
            time.sleep(min(_BETWEEN, deadline.left / 2))
            after = client.lag(name, timeout=deadline.left, described=group)
    except AuthorizationError:
        return [Finding(
            subject, "rights", State.TROUBLE, "this user may not see it",
            "ask whoever runs the cluster for the right: kafka-acls.sh --bootstrap-server ... --add --allow-principal "
            f"User:NAME --operation Read --group {name}",
        )]  # fmt: skip
    except KafkaError as error:
        return [Finding(
            subject, "state", State.TROUBLE, f"the cluster does not tell: {error}",
            "try again; the group's coordinator is one of the brokers, see above",
        )]  # fmt: skip
    return [_state(subject, group, after), *_lag(subject, group, before, after)]


def _described(client: Admin, name: str, deadline: Deadline) -> Group:
    """The group, from a coordinator that may just be reading what it has on it."""
    while True:
        try:
            return client.group(name, deadline.left)
        except KafkaError as error:
            if not error.retriable or deadline.left < 2 * _PAUSE:
                raise
        time.sleep(_PAUSE)


def _state(subject: str, group: Group, lags: Sequence[PartitionLag]) -> Finding:
    facts = {
        "state": group.state,
        "type": group.type,
        "members": [{"id": member.id, "client_id": member.client_id, "host": member.host,
                     "partitions": len(member.partitions)} for member in group.members],
    }  # fmt: skip
    if group.state == "Dead" or (not group.members and not lags):
        return Finding(
            subject, "state", State.TROUBLE, "there is no such group: nobody has ever worked in it here",
            "check its spelling (a listener's pool is its group), and that the service talks to this cluster", facts,
        )  # fmt: skip
    if not group.members:
        return Finding(
            subject, "state", State.TROUBLE, "it has no members: nobody reads for it now",
            "start the service; if it runs, its log says what keeps it from joining", facts,
        )  # fmt: skip
    count = f"{len(group.members)} member{'s' if len(group.members) != 1 else ''}"
    if group.state != "Stable":
        return Finding(
            subject, "state", State.WARNING, f"{group.state}, {count}: its partitions are being divided anew",
            "look again in some seconds; if it stays so, a member is too slow to answer (max.poll.interval.ms) or "
            "restarts again and again", facts,
        )  # fmt: skip
    idle = sum(not member.partitions for member in group.members)
    if idle:
        return Finding(
            subject, "state", State.WARNING, f"Stable, {count}, {idle} of them without a partition",
            "there are fewer partitions than members: those without are in reserve; add partitions to use them", facts,
        )  # fmt: skip
    return Finding(subject, "state", State.OK, f"Stable, {count}", "", facts)


def _lag(subject: str, group: Group, before: Sequence[PartitionLag], after: Sequence[PartitionLag]) -> list[Finding]:
    then = {(each.topic, each.partition): each for each in before}
    total = sum(each.lag or 0 for each in after)
    stuck = [
        f"{each.topic}-{each.partition}"
        for each in after
        if each.lag and each.committed == then[each.topic, each.partition].committed
    ]
    missed = {f"{each.topic}-{each.partition}": each.missed for each in after if each.missed}
    facts = {"lag": total, "not_moving": stuck, "missed": missed}
    findings = []
    if missed:
        findings.append(Finding(
            subject, "missed", State.TROUBLE,
            f"{sum(missed.values())} records were removed from {', '.join(missed)} before the group had read them",
            "they are lost to it: raise the topic's retention.ms, and see why the group was so late", facts,
        ))  # fmt: skip
    if not total:
        return (
            [*findings, Finding(subject, "lag", State.OK, "nothing waits to be read", "", facts)] if after else findings
        )
    if stuck and group.members and len(stuck) == sum(bool(each.lag) for each in after):
        findings.append(Finding(
            subject, "lag", State.WARNING, f"{total} records wait, and within a second none was committed",
            "`rdknotify lag --watch` shows whether it moves at all; if not, look at its log: an endpoint or database "
            "that hangs, a record that fails again and again", facts,
        ))  # fmt: skip
    elif group.members:
        findings.append(Finding(subject, "lag", State.OK, f"{total} records wait, and it gets on", "", facts))
    else:
        findings.append(Finding(
            subject, "lag", State.WARNING, f"{total} records wait for it", "start the service that reads them", facts
        ))  # fmt: skip
    return findings
