"""The lag of a group as ``lag`` shows it, and the pace at which it changes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rdknotify.admin import Group, PartitionLag

__all__ = ["GroupLag", "Pace", "Paces"]

_WINDOW = 30.0
"""Seconds over which the pace is measured."""


@dataclass(frozen=True)
class GroupLag:
    """A group and how far it has got in each partition."""

    group: Group
    partitions: Sequence[PartitionLag]

    @property
    def name(self) -> str:
        return self.group.name

    @property
    def lag(self) -> int:
        """Records not committed yet, in the partitions that have a committed offset."""
        return sum(each.lag or 0 for each in self.partitions)

    @property
    def at_most(self) -> int:
        """The same, with all that there is in partitions without a committed offset."""
        return self.lag + sum(_records(each) for each in self._without_commit)

    @property
    def _without_commit(self) -> list[PartitionLag]:
        return [each for each in self.partitions if each.committed is None]

    def summary(self) -> str:
        """What to know first: state, kind, members, coordinator."""
        count = len(self.group.members)
        members = f"{count} member{'s' * (count != 1)}" if count else "no members"
        words = [self.group.state, self.group.type, members, "" if self.partitions else "nothing committed"]
        return ", ".join(word for word in words if word)

    def remark(self) -> str:
        """What the sum leaves out."""
        count = len(self._without_commit)
        return f"{count} without a committed offset" if count else ""

    def reader(self, partition: PartitionLag) -> str | None:
        """Who reads a partition, or what is wrong with it."""
        if partition.error is not None:
            return str(partition.error)
        member = partition.member
        name = None if member is None else f"{member.instance_id or member.client_id}@{member.host}"
        if partition.missed:
            return f"{name or '-'} ({partition.missed:,} removed unread)"
        return name

    def facts(self, paces: Paces | None) -> dict[str, Any]:
        """For JSON; times in seconds."""
        group = self.group
        return {
            "group": group.name,
            "state": group.state,
            "type": group.type,
            "assignor": group.assignor,
            "coordinator": group.coordinator and "{1}:{2}".format(*group.coordinator),
            "lag": self.lag,
            **_rates(paces, self),
            "members": [
                {"id": each.id, "client_id": each.client_id, "instance_id": each.instance_id or None, "host": each.host}
                for each in group.members
            ],
            "partitions": [
                {
                    "topic": each.topic,
                    "partition": each.partition,
                    "committed": each.committed,
                    "begin": each.begin,
                    "end": each.end,
                    "lag": each.lag,
                    "member": each.member and each.member.id,
                    "error": each.error and str(each.error),
                    **_rates(paces, self, each),
                }
                for each in self.partitions
            ],
        }


class Pace(NamedTuple):
    """Records a second: how fast topics grow, how fast the group commits; seconds until the lag is 0 (None: never)."""

    grows: float
    commits: float
    left: float | None


class _Seen(NamedTuple):
    when: float
    end: int
    committed: int


class Paces:
    """What was seen in the last half minute."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, int], deque[_Seen]] = {}

    def note(self, found: Iterable[GroupLag], now: float | None = None) -> None:
        """Remember these answers; ``now`` in seconds of a clock that never goes back."""
        when = time.monotonic() if now is None else now
        for group in found:
            for each in group.partitions:
                if each.end is None or each.committed is None:
                    continue
                seen = self._seen.setdefault((group.name, each.topic, each.partition), deque())
                seen.append(_Seen(when, each.end, each.committed))
                while when - seen[0].when > _WINDOW and len(seen) > 2:
                    seen.popleft()

    def of(self, group: GroupLag, partition: PartitionLag | None = None) -> Pace | None:
        """That of a partition, or of the whole group; None until there are two looks."""
        partitions = group.partitions if partition is None else [partition]
        changes = [change for each in partitions if (change := self._change(group, each)) is not None]
        if not changes:
            return None
        grows, commits = (sum(rates) for rates in zip(*changes, strict=True))
        lag = sum(each.lag or 0 for each in partitions)
        if lag <= commits:  # what a second takes away is on its way
            return Pace(grows, commits, 0.0)
        return Pace(grows, commits, lag / (commits - grows) if commits > grows else None)

    def _change(self, group: GroupLag, partition: PartitionLag) -> tuple[float, float] | None:
        seen = self._seen.get((group.name, partition.topic, partition.partition))
        if seen is None or seen[-1].when <= seen[0].when:
            return None
        first, last = seen[0], seen[-1]
        passed = last.when - first.when
        return (last.end - first.end) / passed, (last.committed - first.committed) / passed


def _records(partition: PartitionLag) -> int:
    return max(0, (partition.end or 0) - (partition.begin or 0))


def _rates(paces: Paces | None, group: GroupLag, partition: PartitionLag | None = None) -> dict[str, Any]:
    pace = None if paces is None else paces.of(group, partition)
    if pace is None:
        return {}
    left = None if pace.left is None else round(pace.left, 1)
    return {"grows_per_second": round(pace.grows, 1), "commits_per_second": round(pace.commits, 1), "done_in": left}
