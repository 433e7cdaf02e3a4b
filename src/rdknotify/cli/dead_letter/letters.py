"""Dead letters as a person meets them: where each lies, where it came from, why; and which are meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, Protocol

from rdknotify.errors import ConfigError
from rdknotify.provenance import PREFIX, REASON, HeaderList, Origin, ReadRecord

__all__ = ["DISCARDED", "SENT_AGAIN", "Letter", "Place", "Room", "Selection", "facts"]

SENT_AGAIN, DISCARDED = "sent again", "discarded"
_NOT_KEPT = "is too large for this topic)"
"""How the reason ends of a letter without its value (:class:`rdknotify.deadletter.DeadLetters`)."""


@dataclass(frozen=True)
class Letter:
    """One dead letter.

    Attributes:
        number: what it is called by, for good: partition and offset in its topic, or the place in its file.
        when: when it became one; None where that is not known.
        done: what became of it already; empty: nothing.
    """

    number: str
    when: datetime | None
    origin: Origin
    reason: str
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: HeaderList = field(repr=False)
    done: str = ""

    @classmethod
    def of(cls, record: ReadRecord, number: str, when: float | None, done: str = "") -> Letter:
        """``when`` in milliseconds since the epoch."""
        reason = next((value for name, value in record.headers if name == REASON and value is not None), b"")
        moment = None if when is None else datetime.fromtimestamp(when / 1000, timezone.utc)
        return cls(
            number,
            moment,
            Origin.of(record),
            reason.decode("utf-8", "replace"),
            record.key,
            record.value,
            record.headers,
            done,
        )

    @property
    def own_headers(self) -> HeaderList:
        """Those that the record had before it became a dead letter."""
        return [header for header in self.headers if not header[0].startswith(PREFIX)]

    @property
    def came_from(self) -> str:
        """``topic-partition@offset``; empty where it has no origin but itself."""
        origin = self.origin
        return f"{origin.topic}-{origin.partition}@{origin.offset}" if origin.group is not None else ""

    @property
    def has_its_value(self) -> bool:
        """False where only its headers fitted into the dead letter topic."""
        return self.value is not None or not self.reason.endswith(_NOT_KEPT)

    @property
    def sort_key(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.number.split("-"))


@dataclass(frozen=True)
class Selection:
    """Which letters are meant: by number (``12``, ``0-12``, ``0-12..0-20``), by reason, or all."""

    numbers: Sequence[str] = ()
    reason: str | None = None

    def chosen(self, letters: Iterable[Letter]) -> list[Letter]:
        """Those of them. Raises ConfigError for a number that nobody has, and for a wrong regular expression."""
        found = list(letters)
        if self.numbers:
            found = [letter for number in self.numbers for letter in _numbered(number, found)]
        if self.reason is not None:
            try:
                pattern = re.compile(self.reason)
            except re.error as error:
                raise ConfigError(f"--reason {self.reason!r}: no regular expression: {error}") from None
            found = [letter for letter in found if pattern.search(letter.reason)]
        return list({letter.number: letter for letter in found}.values())


def _numbered(text: str, letters: Sequence[Letter]) -> list[Letter]:
    first, dots, last = text.partition("..")
    try:
        low = tuple(int(part) for part in first.split("-"))
        high = tuple(int(part) for part in last.split("-")) if dots else low
    except ValueError:
        raise ConfigError(f"number {text!r}: write it as `dead-letter list` shows it, a range as 0-12..0-20") from None
    found = [letter for letter in letters if low <= letter.sort_key <= high]
    if not found:
        raise ConfigError(f"there is no dead letter with the number {text}, or it is done with: see dead-letter list")
    return found


@dataclass
class Room:
    """How many letters are held in memory; the further ones come when those are done with."""

    letters: int = 20_000
    bytes: int = 256 << 20

    def takes(self, letter: Letter) -> bool:
        """Whether there is room for it too."""
        self.letters -= 1
        self.bytes -= len(letter.value or b"") + len(letter.key or b"")
        return self.letters >= 0 and self.bytes >= 0


class Place(Protocol):
    """Where dead letters lie, with what is remembered of them. A context manager; used by one thread."""

    name: str
    further: int
    """Letters that were not read, for there were too many; they come after those that were."""

    def letters(self) -> list[Letter]:
        """In order; without those that are done with, unless it was made for all."""

    def mark(self, done: Sequence[Letter], what: str) -> None:
        """Remember for good that these are done with. Raises what kept it from that."""

    def __enter__(self) -> Place: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def facts(letter: Letter) -> dict[str, Any]:
    """A letter for programs, without its content."""
    origin = letter.origin
    known = origin.group is not None
    return {
        "number": letter.number,
        "when": letter.when.isoformat() if letter.when else None,
        "topic": origin.topic if known else None,
        "partition": origin.partition if known else None,
        "offset": origin.offset if known else None,
        "group": origin.group,
        "attempts": origin.attempts,
        "reason": letter.reason,
        "done": letter.done or None,
    }
