"""The comparison itself: the log against what was sent, then each group against the log."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import numpy as np

from rdknotify.testing.checker.columns import OFFSET_BITS, TICKS, Column, Columns, Flags, Names, among, as_before, nth
from rdknotify.testing.checker.findings import EVIDENCE, Anomaly, Kind, Reading, Report
from rdknotify.testing.checker.history import SEQUENCE_BITS, Event, Logged, Poll, Result, Send, Stored

__all__ = ["LOG", "check"]

LOG = "log"
"""Where an anomaly is that concerns no group."""

_NOT_PERSISTED, _DELIVERED = 0, 2
_NEVER = np.iinfo(np.int64).max


def check(events: Iterable[Event], before: Collection[str] = ()) -> Report:
    """Compare histories, in any order of processes, each process's events in its own.

    ``before`` names the groups that commit before they hand out: for them a commit is never ahead.
    """
    columns = Columns(events)
    report = Report()
    log = _Log(columns, report)
    log.against_sent()
    for group in columns.groups(Poll):
        _Group(log, group).polled(ahead=group not in before)
    for group in columns.groups(Stored):
        _Group(log, group).stored()
    return report


class _Log:
    """The log in order; a record's *rank* is its place in that, all partitions one after the other."""

    def __init__(self, columns: Columns, report: Report) -> None:
        self.columns, self.report = columns, report
        position, value = columns.records(Logged)
        order = np.lexsort((value, position))
        position, value = position[order], value[order]
        again = as_before(position)
        other = again & ~as_before(value)
        self.tell(Kind.INCONSISTENT, LOG, other, lambda i: f"{self._record(value[i])} too at {self.place(position[i])}")
        self.position, self.value = position[~again], value[~again]
        self._by_value = np.argsort(self.value, kind="stable")
        self._values = self.value[self._by_value]
        self._twins = as_before(self._values)
        report.logged = len(self.value)

    def tell(self, kind: Kind, where: str, wrong: Flags, words: Callable[[int], str], count: int | None = None) -> None:
        """Report the cases that are flagged, if there are any."""
        cases = np.flatnonzero(wrong)
        if len(cases):
            told = [words(int(case)) for case in cases[:EVIDENCE]]
            self.report.anomalies.append(Anomaly(kind, where, len(cases) if count is None else count, told))

    def place(self, position: int | np.int64) -> str:
        return self.columns.place(int(position))

    def at(self, rank: int | np.int64) -> str:
        """A record of the log in words."""
        return f"{self._record(self.value[rank])} at {self.place(self.position[rank])}"

    def _record(self, value: int | np.int64) -> str:
        return f"record {int(value) >> SEQUENCE_BITS}:{int(value) & ((1 << SEQUENCE_BITS) - 1)}"

    def against_sent(self) -> None:
        sends, tries = np.unique(self.columns.values(Send), return_counts=True)
        acknowledged = np.unique(self.columns.values(Result, _DELIVERED))
        failed, failures = np.unique(self.columns.values(Result, _NOT_PERSISTED), return_counts=True)
        self.report.sent, self.report.acknowledged = len(sends), len(acknowledged)

        def one(values: Column) -> Callable[[int], str]:
            return lambda i: self._record(values[i])

        self.tell(Kind.LOST, LOG, ~among(acknowledged, self._values)[1], one(acknowledged))
        self.tell(Kind.NEVER_SENT, LOG, ~among(self.value, sends)[1], self.at)
        place, known = among(failed, sends)
        hopeless = failed[known & (tries[place] == failures)] if len(sends) else failed[:0]
        self.tell(Kind.FAILED_EXISTS, LOG, among(hopeless, self._values)[1], one(hopeless))

        def twins(case: int) -> str:
            first, second = self._by_value[case - 1 : case + 1]
            return f"{self.at(first)} and {self.place(self.position[second])}"

        self.tell(Kind.DUPLICATE, LOG, self._twins, twins)

    def ranks(self, position: Column, value: Column, where: str) -> tuple[Column, Flags]:
        """The rank of each record that somebody was handed or has stored, and whether it is on the log.

        Who was not told offsets was handed a value's twins in the order of the log.
        """
        by_position, placed = among(position, self.position)
        by_value, valued = among(value, self._values)
        told = position >= 0
        if self._twins.any():
            last = np.searchsorted(self._values, value, side="right") - 1
            by_value = np.where(valued, np.minimum(by_value + nth(value), last), by_value)
        there = np.where(told, placed, valued)
        if not len(self.value):
            rank = by_position
        else:
            rank = np.where(told, by_position, self._by_value[by_value])
            other = told & placed & (self.value[rank] != value)
            self.tell(
                Kind.INCONSISTENT, where, other, lambda i: f"{self._record(value[i])}, on the log {self.at(rank[i])}"
            )
        self.tell(Kind.VANISHED, where, ~there, lambda i: self._told(position[i], value[i]))
        return rank, there

    def _told(self, position: np.int64, value: np.int64) -> str:
        return self._record(value) + (f" at {self.place(position)}" if position >= 0 else "")


class _Group:
    """One group against the log."""

    def __init__(self, log: _Log, name: str) -> None:
        self._log, self._name = log, name

    def _tell(self, kind: Kind, wrong: Flags, words: Callable[[int], str], count: int | None = None) -> None:
        self._log.tell(kind, self._name, wrong, words, count)

    def stored(self) -> None:
        position, value = self._log.columns.records(Stored, self._name)
        rank, there = self._log.ranks(position, value, self._name)
        rank = np.sort(rank[there])
        self._tell(Kind.DUPLICATE, as_before(rank), lambda i: self._log.at(rank[i]))
        self._missing(rank, by_value=True)
        self._ahead_of_sink()

    def polled(self, ahead: bool) -> None:
        position, value, member, time = self._log.columns.records(Poll, self._name)
        order = np.argsort(time, kind="stable")
        position, value, member, time = position[order], value[order], member[order], time[order]
        rank, there = self._log.ranks(position, value, self._name)
        rank, member, time = rank[there], member[there], time[there]
        told = position[there] >= 0
        self._missing(rank)
        self._order(rank, member, told)
        first = np.full(len(self._log.value), _NEVER)
        np.minimum.at(first, rank, time)
        self._repeats(rank, member, time)
        if ahead:
            self._ahead_of_members(first)

    def _missing(self, rank: Column, by_value: bool = False) -> None:
        """What was passed over for good, and what is beyond all that was read; ``by_value``: one of twins is enough."""
        log = self._log
        seen = np.zeros(len(log.value), np.bool_)
        seen[rank] = True
        if by_value:
            seen = among(log.value, np.unique(log.value[rank]))[1]
        partition = log.position >> OFFSET_BITS
        furthest = np.full(len(log.columns.partitions.all), -1)
        np.maximum.at(furthest, partition[seen], np.flatnonzero(seen))
        beyond = np.arange(len(seen)) > furthest[partition]
        self._tell(Kind.LOST, ~seen & ~beyond, log.at)
        self._tell(Kind.UNSEEN, ~seen & beyond, log.at)

    def _order(self, rank: Column, member: Column, told: Flags) -> None:
        """Within one assignment each record is followed by the next on the log."""
        log = self._log
        members = log.columns.members.all
        judged = np.array([epoch is not None for _, epoch in members], np.bool_)
        chosen = told & judged[member]
        rank, member = rank[chosen], member[chosen]
        order = np.lexsort((np.arange(len(rank)), log.position[rank] >> OFFSET_BITS, member))
        rank, member = rank[order], member[order]
        partition = log.position[rank] >> OFFSET_BITS
        same = as_before(member, partition)
        step = np.diff(rank, prepend=0)

        def words(case: int) -> str:
            process, epoch = members[member[case]]
            return f"{process} in its assignment {epoch}: {log.at(rank[case])} after {log.at(rank[case - 1])}"

        skips = same & (step > 1)
        self._tell(Kind.SKIPPED, skips, words, int((step[skips] - 1).sum()))
        self._tell(Kind.REORDERED, same & (step < 1), words)

    def _repeats(self, rank: Column, member: Column, time: Column) -> None:
        faults = self._log.columns.faults
        order = np.lexsort((time, rank))
        rank, member, time = rank[order], member[order], time[order]
        again = np.flatnonzero(as_before(rank))
        reading = Reading(len(rank))
        if len(again):
            begun = np.array([fault.at * TICKS for fault in faults], np.float64)
            fault = np.searchsorted(begun, time[again], side="right") - 1
            lives = Names()
            life = np.array([lives.number(process) for process, _ in self._log.columns.members.all])
            cases = np.stack([fault, life[member[again - 1]], life[member[again]]])
            different, counts = np.unique(cases, axis=1, return_counts=True)
            most = int(np.argmax(counts))
            which, earlier, later = map(int, different[:, most])
            after = f"{faults[which].kind} {faults[which].target}" if which >= 0 else "no fault"
            told = f"{after}: {lives.all[earlier]}, then {lives.all[later]}"
            reading = Reading(len(rank), len(again), int(counts[most]), told)
        self._log.report.readings[self._name] = reading

    def _ahead_of_members(self, first: Column) -> None:
        """A group may commit only what was handed out before."""
        log = self._log
        starts = np.searchsorted(log.position, np.arange(len(log.columns.partitions.all)) << OFFSET_BITS)
        handed = first.copy()  # when all of a partition up to and with this record had been handed out
        for part in np.split(handed, starts[1:]):
            np.maximum.accumulate(part, out=part)
        wrong = []
        for commit in (commit for commit in log.columns.commits if commit.group == self._name):
            last = int(np.searchsorted(log.position, log.columns.position(commit.topic, commit.partition, commit.next)))
            begin = int(np.searchsorted(log.position, log.columns.position(commit.topic, commit.partition, 0)))
            if last > begin and handed[last - 1] > int(commit.at * TICKS):
                wrong.append(f"{commit.topic}-{commit.partition} offset {commit.next} at {commit.at:.3f}")
        self._tell(Kind.AHEAD, np.ones(len(wrong), np.bool_), wrong.__getitem__)

    def _ahead_of_sink(self) -> None:
        """What the sink held at the next look must be at least what was committed."""
        columns = self._log.columns
        looks = sorted(
            [(commit.at, 0, commit) for commit in columns.commits if commit.group == self._name]
            + [(held.at, 1, held) for held in columns.held if held.group == self._name],
            key=lambda look: look[:2],
        )
        wrong = []
        committed: dict[tuple[str, int], int] = {}
        for _, is_held, look in looks:
            key = look.topic, look.partition
            if not is_held:
                committed[key] = max(look.next, committed.get(key, 0))
            elif look.next < committed.get(key, 0):
                wrong.append(f"{key[0]}-{key[1]}: {committed[key]} committed, {look.next} held at {look.at:.3f}")
        self._tell(Kind.AHEAD, np.ones(len(wrong), np.bool_), wrong.__getitem__)
