"""Histories as columns of 64-bit numbers: millions of records in bounded memory, one pass over the events."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rdknotify.testing.checker.history import NOWHERE, Commit, Event, Fault, Held, Logged, Poll, Result, Send, Stored

__all__ = ["OFFSET_BITS", "TICKS", "Column", "Columns", "Flags", "Names", "among", "as_before", "expanded", "nth"]

Column: TypeAlias = "npt.NDArray[np.int64]"
Flags: TypeAlias = "npt.NDArray[np.bool_]"

OFFSET_BITS = 44
TICKS = 1_000_000
"""A second."""


class Names:
    """Small numbers for names, in the order in which they came."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self.all: list[Any] = []

    def number(self, name: Any) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self.all)
            self.all.append(name)
        return self._numbers[name]


class Columns:
    """The events, gathered; one row a run, told apart by what they are about."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.partitions = Names()
        self.members = Names()
        """Of a process and an epoch."""
        self.commits: list[Commit] = []
        self.held: list[Held] = []
        self.faults: list[Fault] = []
        self._rows: dict[tuple[type, Any], array[int]] = defaultdict(lambda: array("q"))
        for event in events:
            self._take(event)
        self.faults.sort(key=lambda fault: fault.at)

    def _take(self, event: Event) -> None:
        match event:
            case Send():
                self._spans(event, None)
            case Result():
                self._spans(event, event.outcome)
            case Poll():
                partition = self._partition(event) if event.partition != NOWHERE else NOWHERE
                member = self.members.number((event.process, event.epoch))
                rows = self._rows[Poll, event.group]
                for run in event.runs:
                    rows.extend((*run, partition, member, int(event.at * TICKS)))
            case Logged():
                self._runs(event, None)
            case Stored():
                self._runs(event, event.group)
            case Commit():
                self.commits.append(event)
            case Held():
                self.held.append(event)
            case Fault():
                self.faults.append(event)

    def _partition(self, event: Poll | Logged | Stored) -> int:
        return self.partitions.number((event.topic, event.partition))

    def _spans(self, event: Send | Result, outcome: int | None) -> None:
        rows = self._rows[type(event), outcome]
        for span in event.values:
            rows.extend(span)

    def _runs(self, event: Logged | Stored, group: str | None) -> None:
        partition = self._partition(event)
        rows = self._rows[type(event), group]
        for run in event.runs:
            rows.extend((*run, partition))

    def groups(self, kind: type[Poll] | type[Stored]) -> list[str]:
        """The names of the groups of which there are such events."""
        return [name for of, name in self._rows if of is kind]

    def values(self, kind: type[Send] | type[Result], outcome: int | None = None) -> Column:
        """All values that were sent, or had this outcome; each as often."""
        first, count = self._table(kind, outcome, 2)
        numbers, places = expanded(count)
        found: Column = first[numbers] + places
        return found

    def records(self, kind: type[Logged] | type[Stored] | type[Poll], group: str | None = None) -> list[Column]:
        """Position (-1: not known) and value of each record; of a Poll also its member and time (ticks)."""
        offset, first, count, partition, *more = self._table(kind, group, 6 if kind is Poll else 4)
        numbers, places = expanded(count)
        told = offset != NOWHERE
        begin: Column = np.where(told, partition << OFFSET_BITS | offset, NOWHERE)
        position = begin[numbers] + places * told[numbers]
        return [position, first[numbers] + places, *(column[numbers] for column in more)]

    def position(self, topic: str, partition: int, offset: int) -> int:
        """One number for a place on the log."""
        return self.partitions.number((topic, partition)) << OFFSET_BITS | offset

    def place(self, position: int) -> str:
        """The same in words."""
        topic, partition = self.partitions.all[position >> OFFSET_BITS]
        return f"{topic}-{partition} offset {position & ((1 << OFFSET_BITS) - 1)}"

    def _table(self, kind: type, name: Any, width: int) -> Column:
        rows = self._rows.get((kind, name), array("q"))
        return np.frombuffer(rows, dtype=np.int64).reshape(-1, width).T if rows else np.empty((width, 0), np.int64)


def expanded(counts: Column) -> tuple[Column, Column]:
    """For each record of runs of these lengths: the number of its run, and its place in that, from 0."""
    numbers = np.repeat(np.arange(len(counts)), counts)
    return numbers, np.arange(len(numbers)) - np.repeat(np.cumsum(counts) - counts, counts)


def among(wanted: Column, ordered: Column) -> tuple[Column, Flags]:
    """Where each wanted number is in an ordered column, and whether it is there at all."""
    if not len(ordered):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return at, ordered[at] == wanted


def as_before(*columns: Column) -> Flags:
    """For each row whether it is the same as the row before, in all these columns."""
    same = np.ones(len(columns[0]), np.bool_)
    same[:1] = False
    for column in columns:
        same[1:] &= column[1:] == column[:-1]
    return same


def nth(column: Column) -> Column:
    """How many of the rows before have the same number."""
    order = np.argsort(column, kind="stable")
    places = np.arange(len(column))
    begin = np.maximum.accumulate(np.where(as_before(column[order]), 0, places))
    found = np.empty(len(column), np.int64)
    found[order] = places - begin
    return found
