"""Histories: what processes did, one JSON object a line, so that each writes its own file and all can be read again.

Times are seconds of one clock that all processes share, as ``time.monotonic()`` on one machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from rdknotify.testing.block import Startable

__all__ = [
    "NOWHERE",
    "SEQUENCE_BITS",
    "Commit",
    "Event",
    "Fault",
    "Held",
    "Logged",
    "Poll",
    "Result",
    "Run",
    "Send",
    "Span",
    "Stored",
    "Writer",
    "load",
    "runs",
    "spans",
    "value",
]

SEQUENCE_BITS = 40
NOWHERE = -1
"""An offset that the reader was not told; the log knows it."""

Run = tuple[int, int, int]
"""Offset, value and how many: ``(7, 100, 3)`` is 100 at offset 7, 101 at 8, 102 at 9."""
Span = tuple[int, int]
"""First value and how many: ``(100, 3)`` is 100, 101, 102."""


class Send(msgspec.Struct, frozen=True, tag="send"):
    """A process is about to send these values: written before, so that nothing on the log is unknown."""

    at: float
    process: str
    values: list[Span]


class Result(msgspec.Struct, frozen=True, tag="result"):
    """What the client said of one try to send each of these values; a try without one may have succeeded.

    ``outcome`` is an :class:`rdknotify.Outcome`: 0 not on the log, 1 possibly, 2 acknowledged.
    """

    at: float
    process: str
    outcome: Literal[0, 1, 2]
    values: list[Span]


class Poll(msgspec.Struct, frozen=True, tag="poll"):
    """One batch that a member of a group was handed, in its order.

    ``process`` names one life of a member: restarted, it has another name. ``epoch`` counts the assignments of the
    partition to it: within one, nothing may be passed over or come again. None: not known, order is not judged.
    Who is not told partitions and offsets gives ``runs`` with the offset NOWHERE.
    """

    at: float
    process: str
    group: str
    runs: list[Run]
    topic: str = ""
    partition: int = NOWHERE
    epoch: int | None = None


class Commit(msgspec.Struct, frozen=True, tag="commit"):
    """Somebody saw, at the latest at this time, that a group had committed this next offset."""

    at: float
    group: str
    topic: str
    partition: int
    next: int


class Held(msgspec.Struct, frozen=True, tag="held"):
    """Somebody saw, at this time or later, that a group's sink held this next offset."""

    at: float
    group: str
    topic: str
    partition: int
    next: int


class Stored(msgspec.Struct, frozen=True, tag="stored"):
    """What a group's sink has in the end, of one partition."""

    group: str
    topic: str
    partition: int
    runs: list[Run]


class Logged(msgspec.Struct, frozen=True, tag="logged"):
    """What is on the log in the end, of one partition, read by somebody independent from its beginning to its end."""

    topic: str
    partition: int
    runs: list[Run]


class Fault(msgspec.Struct, frozen=True, tag="fault"):
    """Something was broken from ``at`` until ``end``."""

    at: float
    end: float
    kind: str
    target: str


Event = Send | Result | Poll | Commit | Held | Stored | Logged | Fault


def value(producer: int, sequence: int) -> int:
    """The value of a producer's record: both are counted from 0; at most 2**22 producers, 2**40 records of each."""
    return producer << SEQUENCE_BITS | sequence


def runs(offsets: Sequence[int], values: Sequence[int]) -> list[Run]:
    """Offsets and values, in their order, as runs."""
    found: list[Run] = []
    offset, first, count = NOWHERE, NOWHERE, 0
    for place, this in zip(offsets, values, strict=True):
        if count and place == offset + count and this == first + count:
            count += 1
            continue
        if count:
            found.append((offset, first, count))
        offset, first, count = place, this, 1
    return [*found, (offset, first, count)] if count else found


def partition_runs(
    origins: Iterable[tuple[str, int, int]], values: Iterable[int]
) -> Iterator[tuple[str, int, list[Run]]]:
    """Topic, partition and runs of a batch, whose records come from these topics, partitions and offsets."""
    found: dict[tuple[str, int], tuple[list[int], list[int]]] = {}
    for (topic, partition, offset), this in zip(origins, values, strict=True):
        offsets, sent = found.setdefault((topic, partition), ([], []))
        offsets.append(offset)
        sent.append(this)
    for (topic, partition), (offsets, sent) in found.items():
        yield topic, partition, runs(offsets, sent)


def spans(values: Sequence[int]) -> list[Span]:
    """Values, in their order, as spans."""
    return [(first, count) for _, first, count in runs(values, values)]


_W = TypeVar("_W", bound="Writer")


class Writer(Startable):
    """Appends to one history; a context manager. Safe in threads; what was written survives the process's SIGKILL."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder()
        self._file: int | None = None

    def start(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, event: Event) -> None:
        """One line, in one call of the system."""
        assert self._file is not None, "this Writer was not started"
        os.write(self._file, self._encoder.encode(event) + b"\n")

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def load(folder: Path) -> Iterator[Event]:
    """Every event of the folder's ``*.jsonl``, file by file in their order.

    A last line that was cut off, as by a full disk, is left out. Raises ValueError, naming the line, for any other
    that is no event.
    """
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Event)
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield decoder.decode(line)
                except msgspec.DecodeError as error:
                    if line.endswith(b"\n"):
                        raise ValueError(f"{path}:{number}: {error}") from None
