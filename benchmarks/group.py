"""What the members of a group noted (``benchmarks/clients/regrouping.py``): who owned what, when what was handled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from benchmarks.clients.base import Figures

LATE = 0.1
"""Seconds beyond which a partition paused, and a record is late."""


@dataclass(frozen=True)
class Handled:
    """One record, in seconds of the monotonic clock."""

    sent: float
    at: float

    @property
    def delay(self) -> float:
        return self.at - self.sent


@dataclass
class Group:
    """Follows the members' notes."""

    partitions: int
    owned: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Partitions by member."""
    changed: float = 0.0
    """When the assignment changed last."""
    said: dict[tuple[str, str], float] = field(default_factory=dict)
    """When a member ``joins`` or ``leaves``."""
    handled: dict[int, dict[int, Handled]] = field(default_factory=lambda: defaultdict(dict))
    """By partition and offset, the first time of each."""
    again: list[float] = field(default_factory=list)
    """When something was handled that had been already."""
    _read: dict[Path, int] = field(default_factory=dict)

    def follow(self, logs: Iterable[Path]) -> None:
        """Take what was noted since the last look."""
        for log in logs:
            for line in self._fresh(log):
                self.note(line)

    def _fresh(self, log: Path) -> Iterator[str]:
        if not log.exists():
            return
        with log.open() as lines:
            lines.seek(self._read.get(log, 0))
            noted, newline, _ = lines.read().rpartition("\n")
            self._read[log] = self._read.get(log, 0) + len(noted) + len(newline)
        yield from noted.splitlines()

    def note(self, line: str) -> None:
        time, member, what, *rest = line.split()
        at = float(time)
        if what == "handles":
            partition, offset, sent = int(rest[0]), int(rest[1]), float(rest[2])
            before = self.handled[partition].get(offset)
            if before:
                self.again.append(max(at, before.at))
            if not before or at < before.at:
                self.handled[partition][offset] = Handled(sent, at)
        elif what in ("gets", "gives"):
            change = set(map(int, rest))
            self.owned[member] = self.owned[member] | change if what == "gets" else self.owned[member] - change
            self.changed = max(self.changed, at)
        else:
            self.said[member, what] = at

    def died(self, member: str) -> None:
        self.owned.pop(member, None)

    def complete(self, members: Iterable[str]) -> bool:
        """Every partition has one owner, and each of these members, and nobody else, owns some."""
        owners = {member for member, owned in self.owned.items() if owned}
        every = sorted(partition for owned in self.owned.values() for partition in owned)
        return owners == set(members) and every == list(range(self.partitions))

    def flows(self, since: float) -> bool:
        """Of every partition something was handled that was sent since then."""
        return all(
            any(record.sent > since for record in self.handled[partition].values())
            for partition in range(self.partitions)
        )

    def distinct(self) -> int:
        """How many records were handled at least once."""
        return sum(map(len, self.handled.values()))

    def between(self, begin: float, end: float) -> Figures:
        """What was to be noticed meanwhile: pauses of partitions beyond those of the stream, records that came late.

        ``pause`` is the longest, in seconds; ``paused`` is how many partitions had one longer than LATE, ``delayed``
        how many records were handled later than that after they were sent.
        """
        longest = [pause(self._sequence(partition), begin, end) for partition in range(self.partitions)]
        within = [
            record for records in self.handled.values() for record in records.values() if begin <= record.at <= end
        ]
        return {
            "records": len(within),
            "pause": max(longest),
            "paused": sum(each > LATE for each in longest),
            "delayed": sum(record.delay > LATE for record in within),
            "duplicates": sum(begin <= at <= end for at in self.again),
        }

    def _sequence(self, partition: int) -> Sequence[Handled]:
        records: Mapping[int, Handled] = self.handled[partition]
        return [records[offset] for offset in sorted(records)]


def pause(records: Sequence[Handled], begin: float, end: float) -> float:
    """The longest time between two records of a partition that was not there between their sending."""
    gaps = (after.delay - before.delay for before, after in pairwise(records) if begin <= after.at <= end)
    return max(gaps, default=0.0)
