"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

__all__ = ["EVIDENCE", "Anomaly", "Kind", "Reading", "Report"]

EVIDENCE = 5
"""Cases of an anomaly that are told in words."""


class Kind(str, Enum):
    """What can be wrong; Jepsen's names where it has one."""

    LOST = "lost"
    """Acknowledged and not on the log; or on it and never read, although later offsets of the partition were."""
    UNSEEN = "unseen"
    """On the log, beyond all that was read in the end."""
    DUPLICATE = "duplicate"
    """One value at more than one offset, or stored more than once."""
    FAILED_EXISTS = "failed but exists"
    """Every try to send it ended as NOT_PERSISTED, and it is on the log (Jepsen: aborted read)."""
    NEVER_SENT = "never sent"
    """Nobody sent it, and it is on the log."""
    INCONSISTENT = "inconsistent offset"
    """Two values at one offset."""
    VANISHED = "vanished"
    """Read or stored, and not on the log."""
    SKIPPED = "skipped"
    """A member passed over records of a partition within one assignment (poll-skip)."""
    REORDERED = "reordered"
    """A member went back in a partition within one assignment (nonmonotonic poll)."""
    AHEAD = "committed ahead"
    """A group had committed what it had not handed out yet, or what its sink did not hold."""


@dataclass(frozen=True)
class Anomaly:
    """One kind of thing gone wrong in one place: ``where`` is the log or a group; a few cases in words."""

    kind: Kind
    where: str
    count: int
    evidence: list[str]

    def __str__(self) -> str:
        return f"{self.where}: {self.count} {self.kind.value}: {'; '.join(self.evidence)}"


@dataclass(frozen=True)
class Reading:
    """How a group read.

    Attributes:
        handed: records that its members were handed, each as often as that happened.
        repeated: how often one was handed out that had been before.
        largest_repeat: the most that one member had again from one other (or itself) after one fault began and
            before the next did; ``largest_at`` says which.
    """

    handed: int
    repeated: int = 0
    largest_repeat: int = 0
    largest_at: str = ""


@dataclass
class Report:
    """All that was found; and how much there was to look at."""

    sent: int = 0
    acknowledged: int = 0
    logged: int = 0
    anomalies: list[Anomaly] = field(default_factory=list)
    readings: dict[str, Reading] = field(default_factory=dict)

    def count(self, kind: Kind, where: str | None = None) -> int:
        """How many cases of a kind, in one place or in all."""
        return sum(each.count for each in self.anomalies if each.kind is kind and where in (None, each.where))

    def __str__(self) -> str:
        return "\n".join(map(str, self.anomalies)) or "no anomaly"
